package zohotest_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"

	"github.com/memrelay/memrelay/internal/zoho/zohotest"
)

func BenchmarkSeed25000(b *testing.B) {
	for b.Loop() {
		zohotest.New(zohotest.Options{}).Seed(5000, 4, 1)
	}
}

func BenchmarkPage(b *testing.B) {
	s := zohotest.New(zohotest.Options{})
	s.Seed(5000, 4, 1)
	token := bearer(b, s)
	for b.Loop() {
		req := httptest.NewRequest(http.MethodGet, "/crm/v8/Contacts?fields=Full_Name,Email,Account_Name,Owner,Created_Time,Modified_Time&sort_by=Modified_Time", nil)
		req.Header.Set("Authorization", "Zoho-oauthtoken "+token)
		w := httptest.NewRecorder()
		s.ServeHTTP(w, req)
		if w.Code != http.StatusOK {
			b.Fatal(w.Body)
		}
	}
}

// bearer gets an access token from a server that was not started.
func bearer(b *testing.B, s *zohotest.Server) string {
	b.Helper()
	form := url.Values{
		"grant_type": {"refresh_token"}, "refresh_token": {zohotest.RefreshToken},
		"client_id": {zohotest.ClientID}, "client_secret": {zohotest.ClientSecret},
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/oauth/v2/token?"+form.Encode(), nil))
	var given struct {
		Token string `json:"access_token"`
	}
	if err := json.Unmarshal(w.Body.Bytes(), &given); err != nil {
		b.Fatal(err)
	}
	return given.Token
}
