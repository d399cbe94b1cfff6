package endpoint

import (
	"slices"
	"strings"
)

// IsReservedHeader reports whether a header of that name, in any case, is ours or the
// connection's: it is not among those that an endpoint may have sent along. Authorization
// is not reserved; where an Auth sets it, that of the Auth is sent. A name is the same
// with _ for -: behind CGI, WSGI and their like receivers cannot tell them apart.
func IsReservedHeader(name string) bool {
	name = strings.ReplaceAll(strings.ToLower(name), "_", "-")
	return strings.HasPrefix(name, "webhook-") || slices.Contains([]string{
		"x-webhook-signature", "content-type", "content-length", "host",
		// Those of one connection: RFC 9110, section 7.6.1, and what else steers it.
		"connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade",
		"proxy-authenticate", "proxy-authorization", "expect",
	}, name)
}
