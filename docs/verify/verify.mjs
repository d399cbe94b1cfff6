// Verifies webhooks from memrelay. Needs Node 18.3 and nothing else.
//
// Paste verify() into your receiver, or check by hand what it has received:
//
//     WEBHOOK_SECRET=whsec_... node verify.mjs headers.txt body.json

import { createHmac, createPublicKey, timingSafeEqual, verify as verifyEd25519 } from "node:crypto";
import { readFileSync, realpathSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

// Clocks differ a little. A webhook much older than that is one that somebody
// has recorded and sends again.
const tolerance = 5 * 60; // seconds, both ways

// memrelay sends no more. Each that is checked by a public key costs a reading of the body.
const mostSignatures = 10;

/** The request is not to be believed; the message says why. */
export class InvalidWebhook extends Error {}

/**
 * Throws InvalidWebhook unless one of the secrets signed this id, time and body.
 *
 * headers have names in lower case, as those of node:http do.
 * body is the Buffer as it came: JSON that was parsed and written again differs.
 * secrets is an array, so that the old one still counts while you change it. Each is one
 * that signs, or the public key (whpk_...) of one that does.
 */
export function verify(headers, body, secrets, now = Date.now() / 1000) {
  const id = required(headers, "webhook-id");
  const timestamp = required(headers, "webhook-timestamp");
  const signatures = required(headers, "webhook-signature").split(" ");
  if (signatures.length > mostSignatures) throw new InvalidWebhook("webhook-signature holds too many");
  checkAge(timestamp, now);

  const signed = Buffer.concat([Buffer.from(`${id}.${timestamp}.`), body]);
  for (const secret of secrets) {
    if (signatures.some(checkBy(secret, signed))) return;
  }
  throw new InvalidWebhook("webhook-signature does not match");
}

/**
 * Throws InvalidWebhook unless one of the secrets signed this body.
 *
 * Prefer verify(): X-Webhook-Signature covers neither the id nor the time, so that
 * whoever has recorded a webhook can send it again as a new one. No public key checks it.
 */
export function verifyBody(headers, body, secrets) {
  const signature = required(headers, "x-webhook-signature");
  for (const secret of secrets) {
    if (isPublic(secret)) throw new Error("X-Webhook-Signature is not checked by a public key");
    const expected = "sha256=" + mac(Buffer.from(secret), body).toString("hex");
    if (same(signature, expected)) return;
  }
  throw new InvalidWebhook("x-webhook-signature does not match");
}

function required(headers, name) {
  const value = headers[name];
  if (!value) throw new InvalidWebhook(`${name} is missing`);
  return value;
}

function checkAge(timestamp, now) {
  if (!/^[0-9]{1,15}$/.test(timestamp)) throw new InvalidWebhook("webhook-timestamp is not a time");
  const age = now - Number(timestamp);
  if (age < -tolerance) throw new InvalidWebhook("webhook-timestamp is in the future");
  if (!(age <= tolerance)) throw new InvalidWebhook("webhook-timestamp is too old"); // also if now is not a number
}

// Returns what tells a signature of this content, by the secret or by that of the public
// key, from all others.
function checkBy(secret, signed) {
  if (!isPublic(secret)) {
    const expected = "v1," + mac(standardKey(secret), signed).toString("base64");
    return (signature) => same(signature, expected);
  }
  if (!/^whpk_[A-Za-z0-9+/]{43}=$/.test(secret)) throw new Error("a public key is whpk_ and the base64 of 32 bytes");
  const x = Buffer.from(secret.slice("whpk_".length), "base64").toString("base64url");
  const key = createPublicKey({ format: "jwk", key: { kty: "OKP", crv: "Ed25519", x } });
  return (signature) =>
    /^v1a,[A-Za-z0-9+/]{86}==$/.test(signature) &&
    verifyEd25519(null, signed, key, Buffer.from(signature.slice("v1a,".length), "base64"));
}

// A public key is no secret: whoever used it as one would believe everybody who knows it.
function isPublic(secret) {
  return secret.startsWith("whpk_");
}

// The base64 after whsec_ stands for the key. Any other secret is the key itself.
function standardKey(secret) {
  const coded = secret.startsWith("whsec_") ? secret.slice("whsec_".length) : "";
  // Buffer.from skips what is not base64 instead of failing.
  const isBase64 = coded.length % 4 === 0 && /^[A-Za-z0-9+/]+={0,2}$/.test(coded);
  return isBase64 ? Buffer.from(coded, "base64") : Buffer.from(secret);
}

function mac(key, message) {
  if (key.length === 0) throw new Error("a secret is empty: anybody could sign with it");
  return createHmac("sha256", key).update(message).digest();
}

function same(a, b) {
  const [left, right] = [Buffer.from(a), Buffer.from(b)];
  return left.length === right.length && timingSafeEqual(left, right);
}

function main() {
  const { values: options, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      now: { type: "string" }, // the time to believe it is, in Unix seconds
      "body-only": { type: "boolean" }, // check X-Webhook-Signature
    },
  });
  const secrets = [process.env.WEBHOOK_SECRET, process.env.WEBHOOK_OLD_SECRET].filter(Boolean);
  const [headersFile, bodyFile = 0] = positionals; // 0 is standard input
  if (!headersFile || secrets.length === 0) {
    console.error("usage: WEBHOOK_SECRET=... node verify.mjs [--now SECONDS] [--body-only] HEADERS [BODY]");
    process.exit(2);
  }

  const headers = {};
  for (const line of readFileSync(headersFile, "latin1").split("\n")) {
    const [name, ...value] = line.split(":");
    headers[name.trim().toLowerCase()] = value.join(":").trim();
  }
  const body = readFileSync(bodyFile);

  try {
    if (options["body-only"]) verifyBody(headers, body, secrets);
    else verify(headers, body, secrets, options.now && Number(options.now));
  } catch (error) {
    const invalid = error instanceof InvalidWebhook;
    console.error(invalid ? `invalid: ${error.message}` : error.message);
    process.exit(invalid ? 1 : 2);
  }
  console.log("valid");
}

// Only when started as a command, not when imported.
if (process.argv[1] && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) main();
