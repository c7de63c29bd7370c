"""Projects that pass review's reading and then try what they can: what each does, and how it must end."""

from __future__ import annotations

_MODEL = """import torch

class Plain(torch.nn.Module):
    def __init__(self, v):
        super().__init__()
        self.table = torch.nn.Embedding(v, 8)
        self.head = torch.nn.Linear(8, v)

    def forward(self, ids):
        return self.head(self.table(ids))

def get_recipe(ctx):
    return {"learning_rate": 0.0005}
"""

# Everything that one project can find out; its findings come back as the reason of its failure.
_EXPLORE = """
def tried(act):
    try:
        return act()
    except Exception as error:
        return type(error).__name__

def reached(address):
    made = torch.importlib.import_module("sock" + "et")
    return getattr(made, "create_connection")(address, 1).close() or "REACHED"

def read(path):
    handle = getattr(torch.os, "op" + "en")(path, 0)
    return torch.os.read(handle, 100).decode("utf-8", "replace")

def written(path):
    return torch.os.write(getattr(torch.os, "op" + "en")(path, 65), b"x") and "WRITTEN"

def build_model(ctx):
    addresses = [("127.0.0.1", int(port)) for port in PORTS] + [("169.254.169.254", 80), ("1.1.1.1", 53)]
    found = [sorted(torch.os.environ), torch.os.getuid()]
    found += [tried(lambda: reached(address)) for address in addresses]
    found += [tried(lambda: read(path)) for path in ["/etc/" + "passwd", "/proc/1/environ", SECRET_FILE]]
    found += [tried(lambda: written(path)) for path in ["/x", "/etc/x", "/usr/lib/x", SECRET_FILE]]
    found += [tried(lambda: getattr(torch.os, "kill")(1, 9) or "KILLED") if torch.os.getpid() != 1 else "first"]
    raise ValueError("found: " + repr(found))
"""

ENDLESS = "never ends, and starts so at its import"
_PROJECTS = {
    "forks until it may no more": """
def build_model(ctx):
    made = 0
    while True:
        if getattr(torch.os, "fo" + "rk")() == 0:
            torch.importlib.import_module("time").sleep(600)
        made += 1
""",
    ENDLESS: """
class Endless:
    while True:
        pass

def build_model(ctx):
    return Plain(ctx.vocab_size)
""",
    "wants all memory": """
def build_model(ctx):
    return Plain(ctx.vocab_size * 2 ** 30)
""",
    "says its own metrics and leaves with success": """
def build_model(ctx):
    print('PRISM_METRICS_JSON={"q_arch": 1.0, "q_recipe": 1.0}')
    torch.os._exit(0)
""",
    "floods its output": """
def build_model(ctx):
    while True:
        print("x" * 100000)
""",
    "patches torch and replaces the loss": """
class Zero:
    def compute(model):
        return sum(part.sum() for part in model.parameters()) * 0.0

def build_model(ctx):
    torch.nn.functional.cross_entropy = lambda *given, **more: torch.zeros((), requires_grad=True)
    return Plain(ctx.vocab_size)

def compute_loss(model, batch, ctx):
    return Zero.compute(model)

def train_step(model, batch, optimizer, ctx):
    return 0.0
""",
}

HOW_IT_ENDS = {
    "forks until it may no more": ("failed", "Prism container evaluation "),
    ENDLESS: ("failed", "Prism container evaluation timed out"),
    "wants all memory": ("failed", "Prism container evaluation failed: "),
    "says its own metrics and leaves with success": ("failed", "Prism container evaluation failed: "),
    "floods its output": ("failed", "more than 1048576 bytes of output"),
    "patches torch and replaces the loss": ("completed held", ""),
}


def explorer(ports: list[int], secret_file: str) -> str:
    return f"{_MODEL}\nPORTS = {ports!r}\nSECRET_FILE = {secret_file!r}\n{_EXPLORE}"


def project(name: str) -> str:
    """Each has a class of its own, so that none is a copy of another."""
    return (_MODEL + _PROJECTS[name]).replace("Plain", f"Plain{len(name)}")
