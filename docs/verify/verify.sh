#!/bin/sh
# Verifies a webhook from memrelay with openssl: for a look by hand, not for a
# receiver, for it hands the secret to openssl where the machine's other users see it.
#
#     WEBHOOK_SECRET=whsec_... sh verify.sh headers.txt body.json

set -eu

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

if [ "$check" = x-webhook-signature ]; then
  signatures=$(header x-webhook-signature)
  version=sha256=
  digest=$(cat -- "$body" | mac "$(printf %s "$WEBHOOK_SECRET" | hex)" | hex) || digest=
else
  id=$(header webhook-id)
  timestamp=$(header webhook-timestamp)
  signatures=$(header webhook-signature)
  case $timestamp in
    *[!0-9]* | ????????????????*) invalid "webhook-timestamp is not a time" ;;
  esac
  [ $((now - timestamp)) -le 300 ] || invalid "webhook-timestamp is too old"
  [ $((timestamp - now)) -le 300 ] || invalid "webhook-timestamp is in the future"
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
