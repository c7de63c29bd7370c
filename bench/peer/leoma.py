"""Leoma's blacklist on FastAPI: the same checks and answers, its database stubbed by a dictionary."""

import hashlib
import time
import uuid

import sr25519
from fastapi import Depends, FastAPI, Header, HTTPException, Request
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse
from mangum import Mangum
from pydantic import BaseModel, Field

ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
WINDOW_SECONDS = 300
MAX_BODY_BYTES = 2_097_152

app = FastAPI()
app.add_middleware(CORSMiddleware, allow_origins=["*"], allow_methods=["*"], allow_headers=["*"])
database = {}
used = {}
settings = {"admins": set()}


@app.middleware("http")
async def bounded_and_numbered(request: Request, call_next):
    if int(request.headers.get("content-length", 0)) > MAX_BODY_BYTES:
        return JSONResponse({"detail": "Request body too large"}, 413)
    response = await call_next(request)
    response.headers["X-Request-Id"] = uuid.uuid4().hex
    return response


class NewEntry(BaseModel):
    hotkey: str = Field(min_length=47, max_length=48)
    reason: str | None = Field(None, max_length=255)


class Entry(BaseModel):
    hotkey: str
    reason: str | None
    added_by: str | None
    created_at: str | None


def public_key(address):
    number = 0
    for letter in address:
        number = number * 58 + ALPHABET.index(letter)
    body = number.to_bytes(35, "big")
    if hashlib.blake2b(b"SS58PRE" + body[:33]).digest()[:2] != body[33:]:
        raise HTTPException(401, "Signature verification failed")
    return body[1:33]


async def admin(
    request: Request,
    x_validator_hotkey: str = Header(),
    x_signature: str = Header(),
    x_timestamp: str = Header(),
):
    if abs(time.time() - int(x_timestamp)) > WINDOW_SECONDS:
        raise HTTPException(401, "Timestamp expired")
    if x_validator_hotkey in database:
        raise HTTPException(401, "Hotkey is blacklisted")
    body = await request.body()
    message = f"{hashlib.sha256(body).hexdigest()}:{x_timestamp}".encode()
    if not sr25519.verify(bytes.fromhex(x_signature), message, public_key(x_validator_hotkey)):
        raise HTTPException(401, "Invalid signature")
    if x_validator_hotkey not in settings["admins"]:
        raise HTTPException(403, "Admin access required")
    if used.setdefault(x_signature, request.url.path) != request.url.path:
        raise HTTPException(401, "Signature was already used for another request")
    return x_validator_hotkey


@app.get("/blacklist/{hotkey}", response_model=Entry)
async def entry(hotkey: str):
    found = database.get(hotkey)
    if not found:
        raise HTTPException(404, "Miner not blacklisted")
    return found


@app.post("/blacklist", response_model=Entry)
async def add(body: NewEntry, caller: str = Depends(admin)):
    database[body.hotkey] = Entry(
        hotkey=body.hotkey, reason=body.reason, added_by=caller, created_at="2026-01-01T00:00:00.000000Z"
    )
    return database[body.hotkey]


handler = Mangum(app, lifespan="off")
