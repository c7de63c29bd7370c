"""What we are faster than, measured: ours and the peer in one run, on the same work.

A benchmark is a function in `bench/<system>_<subject>.py`; the runner finds it there:

    @benchmark("leoma.rank", unit="req/s", at_least=50)
    def rank() -> Figures:
        return Figures(ours=requests_per_second(...), peer=requests_per_second(...))

`at_most` and `at_least` bound the ratio ours / peer. `make bench` runs all of them, `make bench ARGS="leoma"` those
whose name contains a word.
"""
