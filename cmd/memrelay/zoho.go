package main

import (
	"bufio"
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/memrelay/memrelay/db"
	"github.com/memrelay/memrelay/internal/config"
	"github.com/memrelay/memrelay/internal/connection"
	"github.com/memrelay/memrelay/internal/seal"
	"github.com/memrelay/memrelay/internal/zoho"
)

type zohoCommand struct {
	Connect    zohoConnect    `cmd:"" help:"Turn a grant code into a stored authorisation."`
	Status     zohoStatus     `cmd:"" help:"Say how the connection with Zoho stands."`
	Disconnect zohoDisconnect `cmd:"" help:"Revoke the stored authorisation and forget it."`
}

const (
	zohoConsole = "https://api-console.zoho.com"
	// zohoTime bounds what a command asks Zoho, in all; revokeTime what is revoked
	// after that because it is of no use.
	zohoTime   = time.Minute
	revokeTime = 5 * time.Second
)

// scope is what a person allows us, and what does not work without it.
type scope struct {
	name    string
	without string
	// any of these is enough; nil: only the name itself.
	instead []string
}

// scopes are all that are asked for. The first one is the one without which
// nothing works.
func scopes() []scope {
	return []scope{
		{"ZohoCRM.modules.ALL", "no record can be read", []string{"ZohoCRM.modules.READ"}},
		{"ZohoCRM.notifications.ALL", "Zoho's notification channels cannot be registered", nil},
		{
			"ZohoCRM.settings.related_lists.READ", "it cannot be looked up by which lists an account's records are found",
			[]string{"ZohoCRM.settings.related_lists.ALL", "ZohoCRM.settings.ALL"},
		},
		{
			"ZohoCRM.settings.modules.READ", "it cannot be looked up which modules there are",
			[]string{"ZohoCRM.settings.modules.ALL", "ZohoCRM.settings.ALL"},
		},
		{
			"ZohoCRM.settings.fields.READ", "it cannot be looked up which fields a module has",
			[]string{"ZohoCRM.settings.fields.ALL", "ZohoCRM.settings.ALL"},
		},
		{"ZohoCRM.coql.READ", "queries in COQL are refused", []string{"ZohoCRM.coql.ALL"}},
		{"ZohoCRM.users.READ", "users cannot be looked up", []string{"ZohoCRM.users.ALL"}},
		{"ZohoCRM.org.READ", "the organisation cannot be looked up", []string{"ZohoCRM.org.ALL"}},
	}
}

// scopeLine is what a person pastes into Zoho's console.
func scopeLine() string {
	var names []string
	for _, s := range scopes() {
		names = append(names, s.name)
	}
	return strings.Join(names, ",")
}

// missing are the scopes that Zoho did not give; none when it did not say which
// it gave. Zoho writes them in either case.
func missing(given []string) []scope {
	if len(given) == 0 {
		return nil
	}
	return slices.DeleteFunc(scopes(), func(s scope) bool {
		return slices.ContainsFunc(append(s.instead, s.name), func(name string) bool {
			return slices.ContainsFunc(given, func(g string) bool { return strings.EqualFold(g, name) })
		})
	})
}

type zohoConnect struct {
	Code        string `help:"The grant code; without it you are told how to get one."`
	RedirectURI string `name:"redirect-uri" help:"The one that the code was given to, for clients that are servers."`
	DataCenter  string `name:"data-center" help:"Where the account lives: us, eu, in, au, jp, cn, ca or sa; else ZOHO_DATA_CENTER, else it is found out."`
}

// Run connects. What can be wrong on our side is looked at first: a code is good
// for one try.
func (c zohoConnect) Run(ctx context.Context, s streams) error {
	p, err := s.zohoParty()
	if err != nil {
		return err
	}
	if c.DataCenter != "" && !slices.Contains(zoho.DataCenters(), c.DataCenter) {
		return usage(fmt.Errorf("--data-center: want one of %s", strings.Join(zoho.DataCenters(), " ")))
	}
	if !p.cfg.Zoho.Connected() {
		return fmt.Errorf("ZOHO_CLIENT_ID and ZOHO_CLIENT_SECRET are required: register a client at %s", zohoConsole)
	}
	if !p.box.HasKey() {
		return fmt.Errorf("nothing to seal the authorisation with: set MEMRELAY_KEY to what `memrelay secret` prints, for all nodes")
	}
	p.explicit = c.DataCenter != "" || s.getenv("ZOHO_DATA_CENTER") != "" || p.cfg.Zoho.AccountsURL != ""
	p.cfg.Zoho.DataCenter = cmp.Or(c.DataCenter, p.cfg.Zoho.DataCenter)
	return s.withPool(ctx, func(pool *pgxpool.Pool) error {
		code := c.Code
		if code == "" {
			if code, err = s.askCode(ctx, os.Stdin); err != nil {
				return err
			}
		}
		ctx, cancel := context.WithTimeout(ctx, zohoTime)
		defer cancel()
		return p.connect(ctx, s, pool, code, c.RedirectURI)
	})
}

// askCode says how a person comes to a grant code, and waits for it where there
// is somebody to type it.
func (s streams) askCode(ctx context.Context, in *os.File) (string, error) {
	out := s.out
	if s.asJSON {
		out = s.err // what is printed there is for machines
	}
	fmt.Fprintf(out, `To connect memrelay with Zoho CRM:

 1. Open %s and sign in as a user who may see all records.
 2. Add a client, "Self Client", or take the one that ZOHO_CLIENT_ID names.
 3. Under "Generate Code" paste this line as the scope:

    %s

    Choose ten minutes, and the production or sandbox environment as it is in ZOHO_EDITION.
 4. Run, within those minutes:

    memrelay zoho connect --code=CODE

`, zohoConsole, scopeLine())
	info, err := in.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return "", usage(errors.New("say --code"))
	}
	fmt.Fprint(out, "Or paste the code here: ")
	typed := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(in).ReadString('\n') // nothing and no answer are the same
		typed <- strings.TrimSpace(line)
	}()
	select {
	case code := <-typed:
		if code == "" {
			return "", usage(errors.New("say --code: none was typed"))
		}
		return code, nil
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// zohoParty is what the commands about Zoho share.
type zohoParty struct {
	cfg       config.Config
	box       *seal.Box
	transport http.RoundTripper
	explicit  bool // somebody said which data centre it is
}

func (s streams) zohoParty() (*zohoParty, error) {
	cfg, _, err := config.FromEnv(s.environ)
	if err != nil {
		return nil, fmt.Errorf("settings:\n%w", err)
	}
	box, err := seal.New(cfg.Keys, rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("MEMRELAY_KEY: %w", err)
	}
	return &zohoParty{cfg: cfg, box: box, transport: http.DefaultTransport}, nil
}

// of is the configuration for a data centre.
func (p *zohoParty) of(dataCenter, accountsURL string) zoho.Config {
	z := p.cfg.Zoho
	return zoho.Config{
		DataCenter: dataCenter, Edition: z.Edition, AccountsURL: accountsURL, APIURL: z.APIURL,
		ClientID: z.ClientID, ClientSecret: z.ClientSecret,
	}
}

// connect exchanges the code, looks at what it is good for, and stores it.
func (p *zohoParty) connect(ctx context.Context, s streams, pool *pgxpool.Pool, code, redirectURI string) error {
	dataCenter, accountsURL, token, err := p.exchange(ctx, code, redirectURI)
	if err != nil {
		return err
	}
	cfg := p.of(dataCenter, accountsURL)
	warnings, err := p.prove(ctx, cfg, token)
	if err != nil {
		p.discard(ctx, s, cfg, token)
		return err
	}
	if dataCenter != p.cfg.Zoho.DataCenter {
		warnings = append(warnings, fmt.Sprintf("the account lives in the data centre %s: set ZOHO_DATA_CENTER=%[1]s", dataCenter))
	}
	if p.cfg.Zoho.RefreshToken != "" {
		warnings = append(warnings, "ZOHO_REFRESH_TOKEN is set and wins over what is stored now: take it out of the environment")
	}
	grant := connection.Grant{ClientID: cfg.ClientID, AccountsURL: accountsURL, Token: token}
	if err := connection.Store(ctx, pool, p.box, grant, "command line, "+account(), time.Now()); err != nil {
		p.discard(ctx, s, cfg, token)
		return err
	}
	for _, w := range warnings {
		fmt.Fprintln(s.err, "memrelay: warning:", w)
	}
	return s.say(map[string]any{
		"status": "connected", "data_center": dataCenter, "accounts_url": accountsURL, "api_url": token.APIDomain,
		"scopes": append([]string{}, token.Scopes...), "warnings": append([]string{}, warnings...),
	}, fmt.Sprintf("connected with Zoho by %s; all nodes use it within a minute", accountsURL))
}

// discard revokes an authorisation that nobody will have, and says so. Zoho keeps
// twenty refresh tokens of a client: it would be one less.
func (p *zohoParty) discard(ctx context.Context, s streams, cfg zoho.Config, token zoho.Token) {
	// It may be that the time is up, or that somebody gave up.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), revokeTime)
	defer cancel()
	if err := zoho.NewOAuth(cfg, p.transport, time.Now).Revoke(ctx, token.Refresh); err != nil {
		fmt.Fprintln(s.err, "memrelay: the authorisation that is not used could not be revoked:", err)
		return
	}
	fmt.Fprintln(s.err, "memrelay: the authorisation is not used and was revoked: get another code to try again")
}

// exchange turns the code into tokens. A code is known in the data centre that
// gave it alone: where nobody said which that is, the others are asked, too.
func (p *zohoParty) exchange(ctx context.Context, code, redirectURI string) (dataCenter, accountsURL string, token zoho.Token, err error) {
	first := p.cfg.Zoho.DataCenter
	candidates := []string{first}
	if !p.explicit {
		candidates = append(candidates, slices.DeleteFunc(zoho.DataCenters(), func(dc string) bool { return dc == first })...)
	}
	var refused error
	for _, dc := range candidates {
		asked := &origin{next: p.transport}
		token, err = zoho.NewOAuth(p.of(dc, p.cfg.Zoho.AccountsURL), asked, time.Now).Exchange(ctx, code, redirectURI)
		if err == nil {
			return dc, cmp.Or(p.cfg.Zoho.AccountsURL, asked.base()), token, nil
		}
		if refused == nil {
			refused = err
		}
		if !elsewhere(err) {
			// It is the one, or it cannot be asked: the code may be good there.
			refused = err
			break
		}
	}
	if len(candidates) > 1 && elsewhere(refused) {
		return "", "", zoho.Token{}, fmt.Errorf("no data centre knows the code or the client: a code is good for minutes and once: %w", refused)
	}
	return "", "", zoho.Token{}, refused
}

// elsewhere reports whether another data centre may know what this one does not.
func elsewhere(err error) bool {
	var said *zoho.Error
	return errors.As(err, &said) && (said.Code == "invalid_code" || said.Code == "invalid_client")
}

// origin notes which server was asked: where tokens come from they are refreshed.
type origin struct {
	next http.RoundTripper
	mu   sync.Mutex
	url  string
}

// RoundTrip asks next.
func (o *origin) RoundTrip(r *http.Request) (*http.Response, error) {
	o.mu.Lock()
	o.url = r.URL.Scheme + "://" + r.URL.Host
	o.mu.Unlock()
	return o.next.RoundTrip(r)
}

func (o *origin) base() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.url
}

// prove looks whether the token is good for what is to be done with it, and
// counts the accounts with it. It returns what a person should know, or an error
// when it is good for nothing.
func (p *zohoParty) prove(ctx context.Context, cfg zoho.Config, token zoho.Token) ([]string, error) {
	var warnings []string
	for _, s := range missing(token.Scopes) {
		switch {
		case s.name != scopes()[0].name:
		case slices.ContainsFunc(token.Scopes, opensModule):
			s.without = "only the modules that have a scope of their own can be read"
		default:
			return nil, fmt.Errorf("the code was given without the scope %s: %s; get one with the scope line %s", s.name, s.without, scopeLine())
		}
		warnings = append(warnings, fmt.Sprintf("without the scope %s: %s", s.name, s.without))
	}
	client := zoho.NewClient(cfg, zoho.Options{Tokens: oneToken(token), Transport: p.transport})
	_, err := client.Count(ctx, "Accounts")
	switch zoho.KindOf(err) {
	case zoho.KindUnauthorized, zoho.KindForbidden, zoho.KindInvalid:
		return nil, fmt.Errorf("the authorisation does not open the accounts: %w", err)
	}
	if err != nil {
		warnings = append(warnings, fmt.Sprintf("stored, but not tried: %v", err))
	}
	return warnings, nil
}

// opensModule reports whether a scope lets one module be read, as
// ZohoCRM.modules.accounts.READ does.
func opensModule(scope string) bool {
	scope = strings.ToLower(scope)
	return strings.HasPrefix(scope, "zohocrm.modules.") && (strings.HasSuffix(scope, ".read") || strings.HasSuffix(scope, ".all"))
}

// oneToken is the only access token there is.
type oneToken zoho.Token

// Token returns it, refused or not.
func (o oneToken) Token(context.Context, string) (zoho.Token, error) { return zoho.Token(o), nil }

type zohoStatus struct{}

// zohoReport is how the connection stands, with what the environment says of it.
type zohoReport struct {
	connection.Status
	Credentials bool `json:"credentials"` // ZOHO_CLIENT_ID and ZOHO_CLIENT_SECRET are set
	Environment bool `json:"environment"` // ZOHO_REFRESH_TOKEN is set, and wins
}

// Run says how the connection stands; it asks Zoho nothing.
func (zohoStatus) Run(ctx context.Context, s streams) error {
	s.onlyHere("zoho status")
	p, err := s.zohoParty()
	if err != nil {
		return err
	}
	return s.withPool(ctx, func(pool *pgxpool.Pool) error {
		status, err := connection.State(ctx, db.New(pool))
		if err != nil {
			return err
		}
		r := zohoReport{Status: status, Credentials: p.cfg.Zoho.Connected(), Environment: p.cfg.Zoho.RefreshToken != ""}
		r.advise()
		if s.asJSON {
			return s.json(r)
		}
		w := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
		for _, line := range r.lines() {
			if line[1] != "" {
				fmt.Fprintf(w, "%s\t%s\n", line[0], line[1])
			}
		}
		return w.Flush()
	})
}

// advise makes of what to do what is to be done first.
func (r *zohoReport) advise() {
	switch {
	case !r.Credentials:
		r.Remedy = "set ZOHO_CLIENT_ID and ZOHO_CLIENT_SECRET, if records are to be read from Zoho"
	case r.State == connection.StateNone && r.Environment:
		r.Remedy = "" // nobody has asked for a token yet
	case r.State == connection.StateRevoked && r.Environment:
		r.Remedy = "replace ZOHO_REFRESH_TOKEN, or take it out of the environment and " + r.Remedy
	}
}

// lines are what people read, by name; what is empty is left out.
func (r *zohoReport) lines() [][2]string {
	authorisation := "none"
	switch {
	case r.Environment:
		authorisation = "ZOHO_REFRESH_TOKEN"
	case r.Stored:
		authorisation = "stored"
	}
	breaker := "closed"
	if r.Breaker.Open {
		breaker = "open until " + clock(r.Breaker.OpenUntil) + ": " + r.Breaker.Reason
	}
	return [][2]string{
		{"state", r.State}, {"authorisation", authorisation}, {"client", r.ClientID}, {"accounts", r.AccountsURL}, {"api", r.APIURL},
		{"scopes", strings.Join(r.Scopes, ",")}, {"access token until", clock(r.AccessUntil)}, {"asked again from", clock(r.BlockedUntil)},
		{"last error", r.LastError}, {"breaker", breaker}, {"to do", r.Remedy},
	}
}

func clock(at *time.Time) string {
	if at == nil {
		return ""
	}
	return at.UTC().Format(time.DateTime)
}

type zohoDisconnect struct {
	Local bool `help:"Only forget it here; it stays good at Zoho."`
	asking
}

// Run revokes what is stored, and forgets it. When it cannot be revoked it is
// not forgotten either: whoever forgets it could never revoke it.
func (c zohoDisconnect) Run(ctx context.Context, s streams) error {
	s.onlyHere("zoho disconnect")
	if err := c.ask(ctx, s, "Read records from Zoho no more?"); err != nil {
		return err
	}
	p, err := s.zohoParty()
	if err != nil {
		return err
	}
	return s.withPool(ctx, func(pool *pgxpool.Pool) error {
		ctx, cancel := context.WithTimeout(ctx, zohoTime)
		defer cancel()
		status, err := p.revoke(ctx, pool, c.Local)
		if err != nil {
			return err
		}
		if err := connection.Forget(ctx, pool, "command line, "+account()); err != nil {
			return err
		}
		if p.cfg.Zoho.RefreshToken != "" {
			fmt.Fprintln(s.err, "memrelay: warning: ZOHO_REFRESH_TOKEN is set and still in force: take it out of the environment")
		}
		return s.say(map[string]any{"status": status}, status)
	})
}

// revoke revokes what is stored, unless local, and says what became of it.
func (p *zohoParty) revoke(ctx context.Context, pool *pgxpool.Pool, local bool) (string, error) {
	grant, err := connection.Stored(ctx, db.New(pool), p.box)
	switch {
	case errors.Is(err, connection.ErrNotConnected):
		return "nothing was stored", nil
	case local && (err == nil || errors.Is(err, seal.ErrNoKey) || errors.Is(err, seal.ErrWrongKey)):
		return "forgotten", nil
	case err != nil:
		return "", fmt.Errorf("%w; --local forgets it without revoking it at Zoho", err)
	}
	accountsURL := cmp.Or(p.cfg.Zoho.AccountsURL, grant.AccountsURL)
	err = zoho.NewOAuth(p.of("", accountsURL), p.transport, time.Now).Revoke(ctx, grant.Token.Refresh)
	if err != nil && !isGone(err) {
		return "", fmt.Errorf("%w; --local forgets it without revoking it at Zoho", err)
	}
	return "revoked and forgotten", nil
}

// isGone reports whether Zoho says that it does not know what was to be revoked.
// Other refusals are of the client or the request: the authorisation is good then.
func isGone(err error) bool {
	var said *zoho.Error
	return errors.As(err, &said) && said.Kind == zoho.KindUnauthorized && (said.Code == "invalid_code" || said.Code == "invalid_token")
}
