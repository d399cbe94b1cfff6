package doctor

import (
	"context"
	"net/url"
	"strings"
)

// leastSecret is the length, in bytes, from which on a random text cannot be guessed:
// what `memrelay secret` prints is longer.
const leastSecret = 24

func lookAtSettings(_ context.Context, p *patient, n *notes) {
	for _, name := range p.unknown {
		n.warn("take "+name+" away, or look up its name in docs/configuration.md", "%s has no effect: there is no setting of this name", name)
	}
	if p.settingsErr != nil {
		for problem := range strings.Lines(p.settingsErr.Error()) {
			problem = strings.TrimSpace(problem)
			n.fail("change it as it says; docs/configuration.md lists every setting", "%s", problem)
		}
		return
	}
	p.lookAtSecrets(n)
	for _, s := range []struct{ name, url string }{
		{"MEM0_WEBHOOK_URL", p.cfg.Outbound.URL}, {"COGNEE_URL", p.cfg.Memory.CogneeURL}, {"MEM0_URL", p.cfg.Memory.Mem0URL},
		{"MEMORY_EMBEDDER_URL", p.cfg.Memory.EmbedderURL}, {"ZOHO_API_URL", p.cfg.Zoho.APIURL}, {"ZOHO_ACCOUNTS_URL", p.cfg.Zoho.AccountsURL},
	} {
		if u, err := url.Parse(s.url); err == nil && u.Scheme == "http" && !isLoopback(u.Hostname()) {
			n.warn("set "+s.name+" to an https URL", "%s is plain http: what is sent there can be read and changed on its way", s.name)
		}
	}
	if len(n.take()) == 0 {
		n.ok("all settings can be read")
	}
}

// lookAtSecrets looks at how well settings are chosen that let people in.
func (p *patient) lookAtSecrets(n *notes) {
	const fresh = " to what `memrelay secret` prints"
	c := p.cfg
	if err := c.CheckServe(); err != nil {
		n.fail("set WEBHOOK_SECRET"+fresh+", and give it to whoever sends", "WEBHOOK_SECRET is not set: `memrelay serve` does not start without it")
	}
	for _, s := range c.Inbound.Secrets {
		if why := weak(s); why != "" {
			n.warn("set WEBHOOK_SECRET"+fresh+"; several, with commas, are taken while senders change", "WEBHOOK_SECRET %s", why)
		}
	}
	for _, s := range []struct{ name, value string }{
		{"WEBHOOK_TOKEN", c.Inbound.Token}, {"ADMIN_TOKEN", c.AdminToken}, {"MEM0_WEBHOOK_SECRET", c.Outbound.Secret},
	} {
		if why := weak(s.value); s.value != "" && why != "" {
			n.warn("set "+s.name+fresh, "%s %s", s.name, why)
		}
	}
	for _, s := range c.Keys {
		if why := weak(s); why != "" {
			n.warn("put a new key, from `memrelay secret`, in front of it: the first seals, all open", "MEMRELAY_KEY %s", why)
		}
	}
	if len(c.Keys) == 0 {
		n.warn("set MEMRELAY_KEY"+fresh+", the same on all nodes",
			"MEMRELAY_KEY is not set: endpoints with secrets cannot be made, and `memrelay zoho connect` cannot store its authorisation")
	}
	if c.Outbound.URL != "" && c.Outbound.Secret == "" {
		n.warn("set MEM0_WEBHOOK_SECRET"+fresh+", and give it to the receiver", "MEM0_WEBHOOK_SECRET is not set: whoever receives webhooks cannot prove that they are ours")
	}
}

// weak says what makes a secret easy to guess; "" when nothing does. It never quotes it.
func weak(secret string) string {
	different := map[rune]bool{}
	for _, r := range secret {
		different[r] = true
	}
	lower := strings.ToLower(secret)
	switch {
	case len(secret) < leastSecret:
		return "is short: it can be guessed"
	case len(different) < 8:
		return "repeats itself: it can be guessed"
	}
	for _, word := range []string{"changeme", "change-me", "change_me", "password", "example", "secret-here", "your-secret", "123456"} {
		if strings.Contains(lower, word) {
			return "looks like one of an example"
		}
	}
	return ""
}

func isLoopback(host string) bool {
	return host == "localhost" || host == "::1" || strings.HasPrefix(host, "127.")
}
