#!/bin/sh
# Verifies a webhook from memrelay with openssl: for a look by hand, not for a
# receiver, for it hands the secret to openssl where the machine's other users see it.
#
#     WEBHOOK_SECRET=whsec_... sh verify.sh headers.txt body.json
#
# WEBHOOK_SECRET may be a public key (whpk_...), which takes OpenSSL 3.

set -euf

now=$(date +%s)
check=webhook-signature
while :; do
  case ${1-} in
    --now) now=$2; shift 2 ;;
    --body-only) check=x-webhook-signature; shift ;;
    *) break ;;
  esac
done
if [ -z "${WEBHOOK_SECRET-}" ] || [ $# -lt 1 ]; then
  echo "usage: WEBHOOK_SECRET=... sh verify.sh [--now SECONDS] [--body-only] HEADERS [BODY]" >&2
  exit 2
fi
headers=$1
body=${2:--} # - is standard input

invalid() {
  echo "invalid: $1" >&2
  exit 1
}

unusable() {
  echo "$1" >&2
  exit 2
}

# header prints the value of a header, or says that it is missing.
header() {
  value=$(LC_ALL=C awk -F : -v name="$1" 'tolower($1) == name { sub(/^[^:]*:[ \t]*/, ""); sub(/[ \t\r]*$/, ""); print; exit }' "$headers")
  [ -n "$value" ] || invalid "$1 is missing"
  printf %s "$value"
}

# The base64 after whsec_ stands for the key. Any other secret is the key itself.
standard_key() {
  coded=${WEBHOOK_SECRET#whsec_}
  if [ "$coded" != "$WEBHOOK_SECRET" ] && printf %s "$coded" | grep -Eq '^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{4}|[A-Za-z0-9+/]{3}=|[A-Za-z0-9+/]{2}==)$'; then
    printf %s "$coded" | openssl base64 -d -A
  else
    printf %s "$WEBHOOK_SECRET"
  fi
}

# mac prints the HMAC-SHA256 of standard input, as bytes. The key is in hex, for it may be any bytes.
mac() {
  openssl dgst -sha256 -mac HMAC -macopt "hexkey:$1" -binary
}

hex() {
  od -An -v -tx1 | tr -d ' \n'
}

# by_public_key ends with what a public key says of the signatures. openssl wants files.
by_public_key() {
  printf %s "$WEBHOOK_SECRET" | grep -Eq '^whpk_[A-Za-z0-9+/]{43}=$' || unusable "a public key is whpk_ and the base64 of 32 bytes"
  files=$(mktemp -d)
  trap 'rm -rf "$files"' EXIT
  trap 'exit 2' HUP INT TERM
  { printf %s "$id.$timestamp."; cat -- "$body"; } >"$files/signed"
  # What stands before the 32 bytes of an ed25519 key in DER: RFC 8410, section 4.
  { printf '\060\052\060\005\006\003\053\145\160\003\041\000'; printf %s "${WEBHOOK_SECRET#whpk_}" | openssl base64 -d -A; } >"$files/key"
  IFS=' '
  for signature in $signatures; do
    printf %s "$signature" | grep -Eq '^v1a,[A-Za-z0-9+/]{86}==$' || continue
    printf %s "${signature#v1a,}" | openssl base64 -d -A >"$files/signature"
    if said=$(openssl pkeyutl -verify -rawin -pubin -keyform DER -inkey "$files/key" -sigfile "$files/signature" -in "$files/signed" 2>&1); then
      echo valid
      exit
    fi
    case $said in
      *"Signature Verification Failure"*) ;;
      *) unusable "openssl cannot verify by a public key, which takes OpenSSL 3: $said" ;;
    esac
  done
  invalid "webhook-signature does not match"
}

if [ "$check" = x-webhook-signature ]; then
  case $WEBHOOK_SECRET in
    whpk_*) unusable "X-Webhook-Signature is not checked by a public key" ;;
  esac
  signatures=$(header x-webhook-signature)
  version=sha256=
  digest=$(cat -- "$body" | mac "$(printf %s "$WEBHOOK_SECRET" | hex)" | hex) || digest=
else
  id=$(header webhook-id)
  timestamp=$(header webhook-timestamp)
  signatures=$(header webhook-signature)
  [ "$(printf %s "$signatures" | tr -cd ' ' | wc -c)" -lt 10 ] || invalid "webhook-signature holds too many"
  case $timestamp in
    *[!0-9]* | ????????????????*) invalid "webhook-timestamp is not a time" ;;
  esac
  [ $((now - timestamp)) -le 300 ] || invalid "webhook-timestamp is too old"
  [ $((timestamp - now)) -le 300 ] || invalid "webhook-timestamp is in the future"
  case $WEBHOOK_SECRET in
    whpk_*) by_public_key ;;
  esac
  version=v1,
  digest=$({ printf %s "$id.$timestamp."; cat -- "$body"; } | mac "$(standard_key | hex)" | openssl base64 -A) || digest=
fi

# No digest must not match an empty signature.
[ -n "$digest" ] || { echo "openssl did not sign" >&2; exit 2; }

# The header may hold several, parted by spaces.
case " $signatures " in
  *" $version$digest "*) echo valid ;;
  *) invalid "$check does not match" ;;
esac
