package app

import (
	"net/http"

	"github.com/go-chi/chi/v5"

	"github.com/memrelay/memrelay"
	"github.com/memrelay/memrelay/internal/contract/pages"
	"github.com/memrelay/memrelay/internal/inbound"
	"github.com/memrelay/memrelay/internal/respond"
)

// Handler is the map of the service: every route, and who calls it.
func (a *App) Handler() http.Handler {
	r := chi.NewRouter()
	respond.Use(r, a.log, respond.OnRefusal(a.refused), respond.TrustProxies(a.cfg.TrustedProxies))

	if a.cfg.Inbound.Enabled {
		// Zoho, and anything that signs like it.
		r.Method(http.MethodPost, "/webhooks/zoho", inbound.NewZoho(a.pool, a.ingester, a.counts, inbound.Settings{
			Secrets: a.cfg.Inbound.Secrets, Token: a.cfg.Inbound.Token,
			MaxBacklog: a.cfg.Inbound.MaxQueueSize, BodyTimeout: inbound.BodyTimeout,
		}))
		// Zoho's products that sign what they send.
		products := a.cfg.Inbound.Products
		r.Method(http.MethodPost, "/webhooks/zoho/{product}", inbound.NewProducts(a.ingester, a.counts, inbound.ProductSettings{
			Payments: products.Payments, Billing: products.Billing, Sign: products.Sign, Mail: products.Mail,
			MaxBacklog: a.cfg.Inbound.MaxQueueSize, BodyTimeout: inbound.BodyTimeout, Now: a.o.Now, Log: a.log,
		}))
	}

	a.agentRoutes(r)

	// Operators, with a token of their scopes.
	r.Route("/admin", a.operators.Routes)

	// Whoever writes a client; no token, for nothing in it is secret.
	pages.New(memrelay.OpenAPI).Routes(r)

	// Monitors; no token.
	r.Method(http.MethodGet, "/livez", respond.Handler(a.health.Live))
	r.Method(http.MethodGet, "/readyz", respond.Handler(a.health.Ready))
	r.Method(http.MethodGet, "/webhooks/health", respond.Handler(a.health.Health))
	r.Method(http.MethodGet, "/webhooks/metrics", respond.Handler(a.health.Metrics))
	return r
}
