PYTHON ?= python3

# Each target installs what it needs and then runs; ARGS goes to the command.
.PHONY: run test check docs bench mutate setup
run test check docs bench mutate setup:
	@$(PYTHON) local/bootstrap.py $@ $(ARGS)
