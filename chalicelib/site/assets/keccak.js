// Keccak-256 and the claim tree's leaf, so that a proof can be checked without trusting the server that sent it.

const MASK = (1n << 64n) - 1n;
const RATE = 136;
const ROTATIONS = [[0, 36, 3, 41, 18], [1, 44, 10, 45, 2], [62, 6, 43, 15, 61], [28, 55, 25, 21, 56], [27, 20, 39, 8, 14]];

function roundConstants() {
  let register = 1;
  const step = () => {
    const bit = register & 1;
    register = (register << 1) ^ (register & 0x80 ? 0x171 : 0);
    return bit;
  };
  return Array.from({ length: 24 }, () => {
    let constant = 0n;
    for (let power = 0; power < 7; power += 1) if (step()) constant |= 1n << BigInt((1 << power) - 1);
    return constant;
  });
}
const CONSTANTS = roundConstants();

const turn = (value, by) => (by ? ((value << BigInt(by)) | (value >> BigInt(64 - by))) & MASK : value);

function permute(lanes) {
  for (const constant of CONSTANTS) {
    const columns = [0, 1, 2, 3, 4].map((x) => lanes[x] ^ lanes[x + 5] ^ lanes[x + 10] ^ lanes[x + 15] ^ lanes[x + 20]);
    for (let x = 0; x < 5; x += 1) {
      const mixed = columns[(x + 4) % 5] ^ turn(columns[(x + 1) % 5], 1);
      for (let y = 0; y < 25; y += 5) lanes[x + y] ^= mixed;
    }
    const moved = new Array(25);
    for (let x = 0; x < 5; x += 1) for (let y = 0; y < 5; y += 1) moved[y + 5 * ((2 * x + 3 * y) % 5)] = turn(lanes[x + 5 * y], ROTATIONS[x][y]);
    for (let y = 0; y < 25; y += 5) for (let x = 0; x < 5; x += 1) lanes[x + y] = moved[x + y] ^ (~moved[((x + 1) % 5) + y] & MASK & moved[((x + 2) % 5) + y]);
    lanes[0] ^= constant;
  }
}

/** The digest of bytes, as bytes. */
export function keccak256(bytes) {
  const padded = new Uint8Array(Math.ceil((bytes.length + 1) / RATE) * RATE);
  padded.set(bytes);
  padded[bytes.length] ^= 0x01;
  padded[padded.length - 1] ^= 0x80;
  const lanes = new Array(25).fill(0n);
  const view = new DataView(padded.buffer);
  for (let block = 0; block < padded.length; block += RATE) {
    for (let lane = 0; lane < RATE / 8; lane += 1) lanes[lane] ^= view.getBigUint64(block + lane * 8, true);
    permute(lanes);
  }
  const digest = new DataView(new ArrayBuffer(32));
  for (let lane = 0; lane < 4; lane += 1) digest.setBigUint64(lane * 8, lanes[lane], true);
  return new Uint8Array(digest.buffer);
}

export const hex = (bytes) => "0x" + [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
export const unhex = (text) => Uint8Array.from(text.replace(/^0x/i, "").match(/../g) ?? [], (pair) => parseInt(pair, 16));

function join(...parts) {
  const whole = new Uint8Array(parts.reduce((size, part) => size + part.length, 0));
  let at = 0;
  for (const part of parts) { whole.set(part, at); at += part.length; }
  return whole;
}

function word(number) {
  return unhex(BigInt(number).toString(16).padStart(64, "0"));
}

const LETTERS = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";

/** The 32 bytes behind an SS58 address; a wrong checksum shows as a leaf that no proof leads from. */
export function publicKey(address) {
  let number = 0n;
  for (const letter of address) {
    const digit = LETTERS.indexOf(letter);
    if (digit < 0) throw new Error(`${address} is no SS58 address`);
    number = number * 58n + BigInt(digit);
  }
  const bytes = unhex(number.toString(16).padStart(70, "0"));
  if (bytes.length !== 35) throw new Error(`${address} is no SS58 address`);
  return bytes.slice(1, 33);
}

/** The leaf of a package, made from its fields alone: epoch, index, hotkey, recipient, amount. */
export function leafOf(claim) {
  return keccak256(keccak256(join(word(claim.epoch), word(claim.index), publicKey(claim.hotkey), publicKey(claim.recipient_coldkey), word(claim.amount_units))));
}

/** Every hash on the way from a leaf to the root. */
export function climb(leaf, proof) {
  const steps = [leaf];
  for (const item of proof) {
    const [below, beside] = [steps.at(-1), unhex(item)];
    steps.push(keccak256(hex(below) < hex(beside) ? join(below, beside) : join(beside, below)));
  }
  return steps;
}
