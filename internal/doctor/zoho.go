package doctor

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/app"
	"github.com/memrelay/memrelay/internal/connection"
	"github.com/memrelay/memrelay/internal/zoho"
)

// fewCredits is from where on the day's credits may not last.
const fewCredits = 1000

const connect = "run `memrelay zoho connect`"

func lookAtZoho(ctx context.Context, p *patient, n *notes) {
	if !p.cfg.Zoho.Connected() {
		n.note("set ZOHO_CLIENT_ID and ZOHO_CLIENT_SECRET, if records are to be read from Zoho: docs/zoho.md",
			"Zoho is not connected: memories are made of what webhooks carry")
		return
	}
	if p.sees() {
		p.lookAtConnection(ctx, n)
		p.lookAtSyncs(ctx, n)
	}
	refresh, cfg, ok := p.authorisation(ctx, n)
	if !ok {
		return
	}
	p.askZoho(ctx, n, cfg, refresh)
}

// lookAtConnection tells what the nodes have found out.
func (p *patient) lookAtConnection(ctx context.Context, n *notes) {
	s, err := connection.State(ctx, p.q)
	if err != nil {
		n.unseen("the connection", err)
		return
	}
	if s.State == connection.StateRevoked {
		n.fail(s.Remedy, "Zoho has refused the authorisation that the nodes use: %s", s.LastError)
	}
	if s.Breaker.Open {
		n.warn("wait, or mend what it says; it is tried again by itself", "the nodes do not ask Zoho at the moment: %s", s.Breaker.Reason)
	}
}

// lookAtSyncs tells whether Zoho is held against what is known.
func (p *patient) lookAtSyncs(ctx context.Context, n *notes) {
	r, err := app.NewReconciler(p.cfg, p.pool, nil, nil, nil, p.o.Now, discard())
	if err != nil {
		n.unseen("the syncs", err)
		return
	}
	last, age, stale, err := r.Staleness(ctx)
	switch {
	case err != nil:
		n.unseen("the syncs", err)
	case stale && last.IsZero():
		n.warn("`memrelay sync list` says why; `memrelay sync incremental` starts one", "no sync has ever succeeded")
	case stale:
		n.warn("`memrelay sync list` says why; `memrelay sync incremental` starts one", "no sync has succeeded for %s", span(age))
	}
}

// authorisation returns the refresh token as the nodes would find it, and whom to ask with it.
func (p *patient) authorisation(ctx context.Context, n *notes) (refresh string, cfg zoho.Config, ok bool) {
	cfg = app.ZohoConfig(p.cfg)
	if p.cfg.Zoho.RefreshToken != "" {
		return p.cfg.Zoho.RefreshToken, cfg, true
	}
	if !p.sees() {
		n.skip("the authorisation is not looked at: it is stored in the database, which cannot be read")
		return "", cfg, false
	}
	box, err := app.NewBox(p.cfg)
	if err != nil {
		n.unseen("the authorisation", err)
		return "", cfg, false
	}
	grant, err := connection.Stored(ctx, p.q, box)
	switch {
	case errors.Is(err, connection.ErrNotConnected):
		n.fail(connect+", or set ZOHO_REFRESH_TOKEN", "a client is set, but nobody has authorised it")
		return "", cfg, false
	case err != nil:
		n.fail("set MEMRELAY_KEY to what it was when `memrelay zoho connect` was run, or run that again", "the stored authorisation cannot be opened: %v", err)
		return "", cfg, false
	case grant.ClientID != cfg.ClientID:
		n.fail(connect+", or set ZOHO_CLIENT_ID to the client that it was given to", "the stored authorisation is of another client than ZOHO_CLIENT_ID")
		return "", cfg, false
	}
	p.hide(grant.Token.Refresh)
	cfg.AccountsURL = cmp.Or(cfg.AccountsURL, grant.AccountsURL)
	return grant.Token.Refresh, cfg, true
}

// askZoho gets an access token of its own and asks one question with it: what is
// stored for the nodes stays as it is, whatever the settings here.
func (p *patient) askZoho(ctx context.Context, n *notes, cfg zoho.Config, refresh string) {
	if p.sees() && p.isBlocked(ctx, n) {
		return
	}
	begun := p.o.Now()
	token, err := zoho.NewOAuth(cfg, p.o.Transport, p.o.Now).Refresh(ctx, refresh)
	if err != nil {
		p.tellZoho(n, "an access token cannot be had", err)
		return
	}
	n.ok("Zoho gives access tokens (%s)", took(p.o.Now().Sub(begun)))
	p.tellScopes(n, token.Scopes)
	begun = p.o.Now()
	client := zoho.NewClient(cfg, zoho.Options{Tokens: oneToken(token), Transport: p.o.Transport, Concurrency: 1, Now: p.o.Now})
	if _, err := client.Count(ctx, "Accounts"); err != nil {
		p.tellZoho(n, "the API does not answer as it should", err)
		return
	}
	n.ok("the API answers (%s)", took(p.o.Now().Sub(begun)))
	if left, told := client.CreditsRemaining(); told && left < fewCredits {
		n.warn("set SYNC_INCREMENTAL_EVERY and SYNC_FULL_AT to less often, or buy credits", "only %d of the day's API credits are left", left)
	} else if told {
		n.note("", "%d of the day's API credits are left, less than half", left)
	}
}

// isBlocked reports, and notes, that Zoho is not to be asked for a token now: to ask
// would keep the nodes from having one for longer.
func (p *patient) isBlocked(ctx context.Context, n *notes) bool {
	const most, within = 8, 10 * time.Minute
	row, err := p.q.GetZohoToken(ctx, "zoho")
	if err != nil {
		return false // there is none yet, and what else is wrong others tell
	}
	if row.BlockedUntil != nil && row.BlockedUntil.After(row.Now) {
		n.skip("Zoho is not asked: it wants to be left alone for %s", span(row.BlockedUntil.Sub(row.Now)))
		return true
	}
	asked := 0
	for _, at := range row.AskedAt {
		if row.Now.Sub(at) < within {
			asked++
		}
	}
	if asked >= most {
		n.skip("Zoho is not asked: the nodes have asked for %d tokens in the last ten minutes, and it gives out ten", asked)
	}
	return asked >= most
}

func (p *patient) tellScopes(n *notes, given []string) {
	if len(given) == 0 || p.o.Missing == nil {
		n.note("", "Zoho did not say which scopes were given")
		return
	}
	missing := p.o.Missing(given)
	for _, m := range missing {
		n.warn(connect+": it prints the line of scopes to ask for", "%s", m)
	}
	if len(missing) == 0 {
		n.ok("all scopes were given")
	}
}

// tellZoho notes how Zoho failed, and what a person can do about that.
func (p *patient) tellZoho(n *notes, what string, err error) {
	switch zoho.KindOf(err) {
	case zoho.KindUnauthorized:
		n.fail("check ZOHO_CLIENT_ID, ZOHO_CLIENT_SECRET and ZOHO_DATA_CENTER, then "+connect, "%s: %v", what, err)
	case zoho.KindForbidden:
		n.fail(connect+" with all scopes, as a user who may see all records", "%s: %v", what, err)
	case zoho.KindThrottled:
		n.warn("wait ten minutes: Zoho gives out ten access tokens in that time", "%s: %v", what, err)
	case zoho.KindCreditsSpent:
		n.warn("wait until tomorrow, or buy credits; SYNC_INCREMENTAL_EVERY saves some", "%s: %v", what, err)
	case zoho.KindInvalid:
		n.fail("check ZOHO_API_URL and ZOHO_EDITION", "%s: %v", what, err)
	default:
		n.fail("look whether this machine reaches Zoho: its name, a proxy, a firewall; https://status.zoho.com", "%s: %v", what, err)
	}
}

// oneToken is the only access token there is.
type oneToken zoho.Token

// Token returns it, refused or not.
func (o oneToken) Token(context.Context, string) (zoho.Token, error) { return zoho.Token(o), nil }

// accountsURL is where tokens come from: what a client of the settings would ask,
// without asking it.
func accountsURL(ctx context.Context, cfg zoho.Config) string {
	var look asked
	// It fails, as nothing is sent.
	_ = zoho.NewOAuth(cfg, &look, time.Now).Revoke(ctx, "")
	url, _ := look.url.Load().(string)
	return url
}

// asked notes who was to be asked, and asks nobody.
type asked struct{ url atomic.Value }

// RoundTrip sends nothing.
func (a *asked) RoundTrip(r *http.Request) (*http.Response, error) {
	a.url.Store(r.URL.Scheme + "://" + r.URL.Host + "/")
	return nil, errors.New("nothing is sent")
}

func lookAtChannels(ctx context.Context, p *patient, n *notes) {
	if !p.cfg.Zoho.Connected() {
		n.skip("Zoho is not connected")
		return
	}
	keeper := app.NewKeeper(p.cfg, p.pool, nil, nil, p.o.Now, discard())
	rows, err := keeper.List(ctx)
	if err != nil {
		n.unseen("the channels", err)
		return
	}
	url := app.NotifyURL(p.cfg)
	known := map[string]bool{}
	well := 0
	for _, c := range rows {
		if c.Source != "zoho" || c.Module == "" || c.State == "removed" {
			continue
		}
		known[c.Module] = true
		if p.tellChannel(n, c, url) {
			well++
		}
	}
	var without []string
	watched, _ := keeper.Modules()
	for _, module := range watched {
		if !known[module] {
			without = append(without, module)
		}
	}
	switch {
	case len(without) > 0 && url == "":
		n.note("set WEBHOOK_BASE_URL, and they are registered; or run `memrelay channels register --url …`; syncs find the changes, later",
			"Zoho tells of no changes of %s: no channel", strings.Join(without, ", "))
	case len(without) > 0:
		n.warn("start a node that works, or run `memrelay channels register`", "Zoho tells of no changes of %s: no channel", strings.Join(without, ", "))
	}
	if well > 0 {
		n.ok("registered, and well: %s", count(well, "channel"))
	}
}

// tellChannel notes what is wrong with a channel, and reports whether nothing is.
func (p *patient) tellChannel(n *notes, c db.ListChannelsRow, url string) bool {
	const soon = 12 * time.Hour
	renew := "run `memrelay channels renew " + c.Module + "`"
	switch {
	case c.State == "lost":
		n.fail(renew+"; `memrelay channels list` says why", "the channel of %s is lost: %s", c.Module, cmp.Or(c.LastError, "it expired"))
	case c.State == "paused":
		n.note("run `memrelay channels resume "+c.Module+"`, once it is to go on", "the channel of %s is paused", c.Module)
	case c.Failures > 0:
		n.warn(renew, "the channel of %s could not be renewed, %d times: %s", c.Module, c.Failures, c.LastError)
	case c.State == "pending":
		n.warn(renew, "the channel of %s is not confirmed by Zoho yet", c.Module)
	case c.ExpiresAt != nil && c.ExpiresAt.Sub(p.o.Now()) < soon:
		n.warn("start a node that works; "+renew, "the channel of %s ends in %s and was not renewed", c.Module, span(c.ExpiresAt.Sub(p.o.Now())))
	case url != "" && c.NotifyURL != url:
		n.warn(renew+", or set WEBHOOK_BASE_URL alike on all nodes", "the channel of %s calls another URL than WEBHOOK_BASE_URL says", c.Module)
	default:
		return true
	}
	return false
}
