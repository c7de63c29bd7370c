"""The smallest thing that answers on Lambda the way most people write it."""

from fastapi import FastAPI
from mangum import Mangum

app = FastAPI()


@app.get("/")
def hello():
    return {"hello": "world"}


handler = Mangum(app)
