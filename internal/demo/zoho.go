package demo

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/memrelay/memrelay/internal/config"
	"github.com/memrelay/memrelay/internal/zoho/zohotest"
)

// zohoAccounts is how many accounts the Zoho of `memrelay dev --zoho` has.
const zohoAccounts = 20

// Zoho is a Zoho on this machine in which somebody works.
type Zoho struct {
	server *zohotest.Server
}

// StartZoho starts a Zoho of twenty accounts with four records each, whose
// notifications go to the program at addr. Close stops it.
func StartZoho(addr string) (*Zoho, error) {
	server := zohotest.New(zohotest.Options{
		Latency: func(*http.Request) time.Duration { return time.Duration(100+rand.IntN(200)) * time.Millisecond },
		Notify:  zohotest.To(func() string { return addr }),
	})
	if err := server.Start(); err != nil {
		return nil, fmt.Errorf("start a Zoho: %w", err)
	}
	server.Seed(zohoAccounts, 4, 1)
	return &Zoho{server: server}, nil
}

// URL is where this Zoho answers, for accounts and API.
func (z *Zoho) URL() string { return z.server.URL() }

// Connect makes cfg that of a program which is connected to this Zoho.
func (z *Zoho) Connect(cfg *config.Config) {
	cfg.Zoho.ClientID, cfg.Zoho.ClientSecret, cfg.Zoho.RefreshToken = zohotest.ClientID, zohotest.ClientSecret, zohotest.RefreshToken
	cfg.Zoho.APIURL, cfg.Zoho.AccountsURL = z.URL(), z.URL()
	cfg.Inbound.BaseURL = "https://memrelay.example.com"
}

// Work changes a record every few seconds until ctx ends, every tenth without a
// notification, so that the next sync has something to find.
func (z *Zoho) Work(ctx context.Context) {
	tick := time.NewTicker(3 * time.Second)
	defer tick.Stop()
	contacts := z.server.IDs("Contacts")
	for n := 1; len(contacts) > 0; n++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		change := z.server.Records
		if n%10 == 0 {
			change = z.server.Silently()
		}
		change.Update("Contacts", contacts[rand.IntN(len(contacts))], map[string]any{"Title": fmt.Sprintf("Buyer, since %s", time.Now().Format(time.TimeOnly))})
	}
}

// Close stops it.
func (z *Zoho) Close() error { return z.server.Close() }
