package respond_test

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/go-chi/chi/v5"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/memrelay/memrelay/internal/respond"
)

func ranges(list ...string) []netip.Prefix {
	var all []netip.Prefix
	for _, s := range list {
		all = append(all, netip.MustParsePrefix(s))
	}
	return all
}

func TestWhomARequestComesFrom(t *testing.T) {
	t.Parallel()
	inside := ranges("10.0.0.0/8", "fd00::/8")
	for name, c := range map[string]struct {
		remote  string
		said    []string
		trusted []netip.Prefix
		want    string
	}{
		"nobody is trusted":              {"203.0.113.7:1234", []string{"198.51.100.1"}, nil, "203.0.113.7"},
		"the peer is no proxy":           {"203.0.113.7:1234", []string{"198.51.100.1"}, inside, "203.0.113.7"},
		"the proxy says":                 {"10.0.0.1:1234", []string{"198.51.100.1"}, inside, "198.51.100.1"},
		"the proxy says nothing":         {"10.0.0.1:1234", nil, inside, "10.0.0.1"},
		"what the sender made up":        {"10.0.0.1:1234", []string{"192.0.2.9, 198.51.100.1"}, inside, "198.51.100.1"},
		"a made up one of ours":          {"10.0.0.1:1234", []string{"10.9.9.9, 198.51.100.1"}, inside, "198.51.100.1"},
		"two proxies":                    {"10.0.0.1:1234", []string{"192.0.2.9, 198.51.100.1, 10.0.0.2"}, inside, "198.51.100.1"},
		"two proxies and two headers":    {"10.0.0.1:1234", []string{"192.0.2.9, 198.51.100.1", "10.0.0.2"}, inside, "198.51.100.1"},
		"all of it ours":                 {"10.0.0.1:1234", []string{"10.0.0.3, 10.0.0.2"}, inside, "10.0.0.3"},
		"what is no address":             {"10.0.0.1:1234", []string{"198.51.100.1, unknown"}, inside, "10.0.0.1"},
		"what is no address, beyond one": {"10.0.0.1:1234", []string{"unknown, 10.0.0.2"}, inside, "10.0.0.2"},
		"with a port":                    {"10.0.0.1:1234", []string{"198.51.100.1:5678"}, inside, "198.51.100.1"},
		"IPv6":                           {"[fd00::1]:1234", []string{"2001:db8::7"}, inside, "2001:db8::7"},
		"IPv6 in brackets":               {"[fd00::1]:1234", []string{"[2001:db8::7]"}, inside, "2001:db8::7"},
		"IPv6 with a port":               {"[fd00::1]:1234", []string{"[2001:db8::7]:5678"}, inside, "2001:db8::7"},
		"IPv4 in IPv6":                   {"[::ffff:10.0.0.1]:1234", []string{"::ffff:198.51.100.1"}, inside, "198.51.100.1"},
		"a peer without an address":      {"@", []string{"198.51.100.1"}, inside, "invalid IP"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := httptest.NewRequest(http.MethodGet, "/", nil)
			r.RemoteAddr = c.remote
			for _, s := range c.said {
				r.Header.Add("X-Forwarded-For", s)
			}
			if got := respond.ClientAddress(r, c.trusted).String(); got != c.want {
				t.Errorf("comes from %s, want %s", got, c.want)
			}
		})
	}
}

func TestWhoIsTurnedAwayIsTold(t *testing.T) {
	t.Parallel()
	var told []respond.Refusal
	r := chi.NewRouter()
	respond.Use(r, slog.New(slog.DiscardHandler), respond.OnRefusal(func(f respond.Refusal) { told = append(told, f) }), respond.TrustProxies(ranges("192.0.2.0/24")))
	answers := map[string]int{"/fine": 200, "/wrong": 401, "/busy": 503, "/broken": 500, "/bare": 0}
	for path, status := range answers {
		r.Method("POST", path+"/{id}", respond.Handler(func(w http.ResponseWriter, _ *http.Request) error {
			switch status {
			case 200:
				return respond.JSON(w, 200, nil)
			case 0:
				w.WriteHeader(403)
				return nil
			}
			return &respond.Error{Status: status, Code: "some_code", Message: "Some message.", Err: io.EOF}
		}))
	}
	for _, path := range []string{"/fine/7", "/wrong/7?token=hunter2", "/busy/7", "/broken/7", "/bare/7", "/nowhere"} {
		req := httptest.NewRequest("POST", path, strings.NewReader("hunter2"))
		req.Header.Set("Authorization", "Bearer hunter2")
		req.Header.Set("User-Agent", "curl/8")
		req.Header.Set("X-Request-Id", "request-7")
		req.Header.Set("X-Forwarded-For", "203.0.113.7")
		r.ServeHTTP(httptest.NewRecorder(), req)
	}
	one := func(path, route string, status int, code, reason string) respond.Refusal {
		return respond.Refusal{
			Method: "POST", Path: path, Route: route, Status: status, Code: code, Reason: reason, Address: netip.MustParseAddr("203.0.113.7"),
			UserAgent: "curl/8", ContentLength: 7, RequestID: "request-7",
		}
	}
	want := []respond.Refusal{
		one("/wrong/7", "/wrong/{id}", 401, "some_code", "Some message."),
		one("/busy/7", "/busy/{id}", 503, "some_code", "Some message."),
		one("/bare/7", "/bare/{id}", 403, "", ""),
		one("/nowhere", "none", 404, "not_found", "There is nothing at this address."),
	}
	if diff := cmp.Diff(want, told, cmpopts.IgnoreFields(respond.Refusal{}, "At"), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Errorf("told (-want +got):\n%s", diff)
	}
}
