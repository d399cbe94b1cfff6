package respond

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// ClientAddress returns whom a request comes from: the peer, or, when that is a proxy
// among trusted, whom it names in X-Forwarded-For. The header is walked from the right,
// where each proxy writes down its own peer, up to the first address that is no trusted
// proxy's: what stands further left the sender may have made up. Of what is no address
// the one before is taken. The zero Addr is returned for a peer that has none.
func ClientAddress(r *http.Request, trusted []netip.Prefix) netip.Addr {
	at := parseAddress(r.RemoteAddr)
	if len(trusted) == 0 || !among(at, trusted) {
		return at
	}
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for _, hop := range slices.Backward(hops) {
		next := parseAddress(strings.TrimSpace(hop))
		if !next.IsValid() {
			return at
		}
		if at = next; !among(at, trusted) {
			return at
		}
	}
	return at
}

// parseAddress reads an address with or without a port: proxies write both.
func parseAddress(s string) netip.Addr {
	if at, err := netip.ParseAddrPort(s); err == nil {
		return at.Addr().Unmap().WithZone("")
	}
	at, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(s, "["), "]"))
	if err != nil {
		return netip.Addr{}
	}
	return at.Unmap().WithZone("")
}

func among(at netip.Addr, ranges []netip.Prefix) bool {
	return slices.ContainsFunc(ranges, func(p netip.Prefix) bool { return p.Contains(at) })
}
