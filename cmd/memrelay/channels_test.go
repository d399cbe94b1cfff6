package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/memrelay/memrelay/internal/dbtest"
	"github.com/memrelay/memrelay/internal/zoho/zohotest"
)

// channelDesk is a person who types commands about channels, a database and a Zoho.
type channelDesk struct {
	t       *testing.T
	zoho    *zohotest.Server
	environ []string
}

func newChannelDesk(t *testing.T, settings ...string) *channelDesk {
	t.Helper()
	server := zohotest.New(zohotest.Options{})
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	return &channelDesk{t: t, zoho: server, environ: append([]string{
		"DATABASE_URL=" + dbtest.URL(t), "MEMRELAY_KEY=" + typedSecret, "ZOHO_MODULES=Contacts,Notes,Meetings",
		"ZOHO_CLIENT_ID=" + zohotest.ClientID, "ZOHO_CLIENT_SECRET=" + zohotest.ClientSecret, "ZOHO_REFRESH_TOKEN=" + zohotest.RefreshToken,
		"ZOHO_API_URL=" + server.URL(), "ZOHO_ACCOUNTS_URL=" + server.URL(),
	}, settings...)}
}

func (d *channelDesk) types(args string) typed {
	d.t.Helper()
	return commandWith(d.t, d.environ, append([]string{"channels"}, strings.Fields(args)...)...)
}

// states are the states by module, as channels list says them.
func (d *channelDesk) states() map[string]string {
	d.t.Helper()
	list := decode[channelList](d.t, d.types("list --json"))
	states := map[string]string{}
	for _, c := range list.Channels {
		states[c.Module] = c.State + " " + strings.Join(c.Events, ",")
	}
	for _, m := range list.Missing {
		states[m] = "missing"
	}
	for _, u := range list.Unwatched {
		states[u.Module] = "unwatched"
	}
	return states
}

func TestChannelsCommands(t *testing.T) {
	t.Parallel()
	d := newChannelDesk(t, "WEBHOOK_BASE_URL=https://relay.example.com/")
	for _, step := range []struct {
		args, says string
		states     map[string]string
	}{
		{"list", "Contacts", map[string]string{"Contacts": "missing", "Events": "missing", "Notes": "unwatched"}},
		{"register Contacts", "Contacts registered\n", map[string]string{"Contacts": "active Contacts.all", "Events": "missing", "Notes": "unwatched"}},
		{"register meetings Deals", "Events registered\nDeals registered\n", map[string]string{
			"Contacts": "active Contacts.all", "Deals": "active Deals.all", "Events": "active Events.all", "Notes": "unwatched"}},
		{"renew", "Contacts is renewed by the next node that works", nil},
		{"events Deals create edit", "Deals changed\n", nil},
		{"pause Contacts", "Contacts paused\n", map[string]string{
			"Contacts": "paused Contacts.all", "Deals": "active Deals.create,Deals.edit", "Events": "active Events.all", "Notes": "unwatched"}},
		{"resume Contacts", "Contacts resumed\n", nil},
		{"remove Deals Events --yes", "Deals removed\nEvents removed\n", map[string]string{
			"Contacts": "active Contacts.all", "Deals": "removed Deals.create,Deals.edit", "Events": "removed Events.all", "Notes": "unwatched"}},
	} {
		out := d.types(step.args).done(t)
		if !strings.Contains(out, step.says) {
			t.Errorf("channels %s prints:\n%s", step.args, out)
		}
		if step.states == nil {
			continue
		}
		if diff := cmp.Diff(step.states, d.states()); diff != "" {
			t.Errorf("after channels %s (-want +got):\n%s", step.args, diff)
		}
	}
	if diff := cmp.Diff(map[string][]string{"due": {"Contacts"}}, decode[map[string][]string](t, d.types("renew --json"))); diff != "" {
		t.Errorf("as JSON (-want +got):\n%s", diff)
	}
	table := d.types("list").done(t)
	for _, want := range []string{"MODULE ", "active ", "removed ", "create,edit ", "Zoho sends no notifications; the hourly sync reads them"} {
		if !strings.Contains(table, want) {
			t.Errorf("the table does not say %q:\n%s", want, table)
		}
	}
	all := d.types("register")
	if all.code != exitDone || all.out != "Contacts registered\nEvents registered\n" || !strings.Contains(all.err, "Notes: Zoho sends no notifications") {
		t.Errorf("exit code %d\n%s%s", all.code, all.out, all.err)
	}
}

func TestChannelsCommandsSayWhatIsWrong(t *testing.T) {
	t.Parallel()
	d := newChannelDesk(t, "WEBHOOK_BASE_URL=https://relay.example.com")
	free := newChannelDesk(t)
	apart := &channelDesk{t: t, environ: []string{d.environ[0]}}
	for _, c := range []struct {
		d    *channelDesk
		args string
		code int
		says string
	}{
		{d, "register Nonsense", exitFailed, "is there such a module"},
		{d, "register Notes", exitUsage, "the hourly sync reads them"},
		{d, "register --url=https://other.example.com/ Contacts", exitUsage, "WEBHOOK_BASE_URL is set"},
		{d, "renew Deals", exitFailed, "channel of Deals: There is no such thing."},
		{d, "pause Deals", exitFailed, "channel of Deals: There is no such thing."},
		{d, "resume Deals", exitFailed, "channel of Deals: There is no such thing."},
		{d, "events Deals edit", exitFailed, "register it first"},
		{d, "events Deals update", exitUsage, "want create, edit, delete, all"},
		{d, "events Deals", exitUsage, "<event>"},
		{d, "remove", exitUsage, "<module>"},
		{d, "remove Deals --yes", exitFailed, "channel of Deals: There is no such thing."},
		{d, "remove Contacts", exitUsage, "say --yes"},
		{free, "register", exitUsage, "Set WEBHOOK_BASE_URL"},
		{apart, "register", exitFailed, "ZOHO_CLIENT_ID"},
	} {
		got := c.d.types(c.args)
		if got.code != c.code || !strings.Contains(got.err, c.says) {
			t.Errorf("channels %s: exit code %d, want %d and %q\n%s%s", c.args, got.code, c.code, c.says, got.out, got.err)
		}
		if strings.Contains(got.out+got.err, zohotest.ClientSecret) || strings.Contains(got.out+got.err, zohotest.RefreshToken) {
			t.Errorf("channels %s says a secret", c.args)
		}
	}
	// Without Zoho a person can still look.
	if out := apart.types("list").done(t); !strings.Contains(out, "Nonsense") || !strings.Contains(out, "INVALID_DATA") {
		t.Errorf("the table says:\n%s", out)
	}
	if out := free.types("register --url=https://relay.example.com/webhooks/zoho Contacts").done(t); out != "Contacts registered\n" {
		t.Errorf("printed %q", out)
	}
	// Zoho is gone.
	free.zoho.Outage(true)
	if got := free.types("remove Contacts --yes"); got.code != exitFailed || !strings.Contains(got.err, "removed here") {
		t.Errorf("exit code %d\n%s%s", got.code, got.out, got.err)
	}
}
