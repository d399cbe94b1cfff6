package main

import (
	"strings"

	"github.com/alecthomas/kong"
)

// examples are what --help shows of each command: what people type, without the
// program's name. All of them can be typed.
func examples() map[string][]string {
	const uuid = "0198c5a2-7f3e-7b6a-9d55-4f1f6f0d2a11"
	return map[string][]string{
		"dev":            {"dev", "dev --once", "dev --zoho"},
		"serve":          {"serve", "serve --no-workers"},
		"work":           {"work"},
		"migrate up":     {"migrate up"},
		"migrate down":   {"migrate down --yes"},
		"migrate status": {"migrate status --json"},

		"events list":    {"events list --status=dead --since=1h", "events list --record=4876876000000333 --json"},
		"events show":    {"events show 42", "events show 42 --body"},
		"events tail":    {"events tail", "events tail --status=dead --json"},
		"events replay":  {"events replay 42 43 --reason='the mapping was wrong'", "events replay --status=dead --since=3h --dry-run", "events replay --status=dead --since=3h --per-second=50 --yes --wait"},
		"events replays": {"events replays"},
		"events pause":   {"events pause " + uuid},
		"events resume":  {"events resume " + uuid},
		"events cancel":  {"events cancel " + uuid},

		"dead list":    {"dead list", "dead list --kind=delivery --endpoint=crm --since=1d"},
		"dead retry":   {"dead retry event/42 delivery/7"},
		"dead discard": {"dead discard event/42 --reason='the account is gone'"},

		"record show": {"record show 4876876000000333", "record show 4876876000000333 --module=Contacts --limit=10"},

		"endpoints list":         {"endpoints list"},
		"endpoints show":         {"endpoints show crm"},
		"endpoints create":       {"endpoints create crm --url=https://crm.example.com/hooks --event=memory_added --event=memory_deleted", "endpoints create crm --url=https://crm.example.com/hooks --user='zoho:*' --bearer=@token.txt", "endpoints create --from=crm.json"},
		"endpoints update":       {"endpoints update crm --rate=20 --timeout=10s", "endpoints update crm --filter='{\"module\":\"Contacts\"}'"},
		"endpoints pause":        {"endpoints pause crm --reason='they move'"},
		"endpoints resume":       {"endpoints resume crm"},
		"endpoints delete":       {"endpoints delete crm", "endpoints delete crm --yes"},
		"endpoints rotate":       {"endpoints rotate crm --overlap=48h", "endpoints rotate crm --kind=ed25519"},
		"endpoints test":         {"endpoints test crm", "endpoints test crm --event=sync.failed"},
		"endpoints recover":      {"endpoints recover crm --since=3h --dry-run", "endpoints recover crm --since=3h --wait --reason='their outage'"},
		"endpoints replay":       {"endpoints replay crm --since=2030-01-31T12:00:00Z --until=2030-01-31T13:00:00Z --event=memory_added", "endpoints replay crm --since=1d --per-second=20 --yes"},
		"endpoints redeliveries": {"endpoints redeliveries crm"},
		"endpoints cancel":       {"endpoints cancel " + uuid},

		"deliveries list":   {"deliveries list --endpoint=crm --status=dead", "deliveries list --user=zoho:4876876000000333 --since=1d --json"},
		"deliveries show":   {"deliveries show 7"},
		"deliveries resend": {"deliveries resend 7 8 --reason='they lost it'"},

		"channels register": {"channels register", "channels register Contacts Deals --url=https://relay.example.com/webhooks/zoho"},
		"channels list":     {"channels list"},
		"channels renew":    {"channels renew", "channels renew Contacts"},
		"channels pause":    {"channels pause Contacts"},
		"channels resume":   {"channels resume Contacts"},
		"channels events":   {"channels events Contacts create edit"},
		"channels remove":   {"channels remove Deals", "channels remove Deals Tasks --yes"},

		"sync account":     {"sync account 4876876000000333", "sync account 4876876000000333 4876876000000334 --detach"},
		"sync incremental": {"sync incremental"},
		"sync full":        {"sync full --detach"},
		"sync list":        {"sync list --limit=5"},
		"sync show":        {"sync show", "sync show full"},
		"sync pause":       {"sync pause"},
		"sync resume":      {"sync resume full"},
		"sync cancel":      {"sync cancel " + uuid},

		"tokens create": {"tokens create support-bot --user=zoho:4876876000000333 --expires=90d", "tokens create on-call --scope=admin:read --scope=admin:write --expires=12h"},
		"tokens list":   {"tokens list"},
		"tokens revoke": {"tokens revoke support-bot"},

		"queues list":   {"queues list"},
		"queues pause":  {"queues pause process --reason='a bad mapping'"},
		"queues resume": {"queues resume process"},
		"jobs list":     {"jobs list --state=retryable", "jobs list --kind=process_event --limit=10"},
		"jobs show":     {"jobs show 1234"},
		"jobs cancel":   {"jobs cancel 1234 --reason='it never ends'"},
		"jobs retry":    {"jobs retry 1234"},

		"stats":    {"stats", "stats --window=24h --json"},
		"rejected": {"rejected --status=401", "rejected --route=/webhooks/zoho --limit=10"},
		"settings": {"settings", "settings --all"},
		"audit":    {"audit --since=1d", "audit --object=endpoint/" + uuid + " --json"},

		"memory status": {"memory status"},
		"memory resync": {"memory resync --dry-run", "memory resync --user=zoho:4876876000000333"},

		"sql role": {"sql role analyst --print", "sql role analyst"},
		"sql drop": {"sql drop analyst"},

		"import redis": {"import redis --url=redis://localhost:6379/0 --dry-run"},

		"mcp":  {"mcp --user=zoho:4876876000000333", "mcp --all-users"},
		"send": {"send", "send --id=evt-1 --url=https://relay.example.com/webhooks/zoho"},

		"zoho connect":    {"zoho connect"},
		"zoho status":     {"zoho status --json"},
		"zoho disconnect": {"zoho disconnect --yes"},

		"doctor":     {"doctor", "doctor --strict --json"},
		"secret":     {"secret"},
		"completion": {"completion bash", "completion zsh", "completion fish"},
		"version":    {"version"},
	}
}

// withExamples adds the examples to what --help says.
func withExamples(root *kong.Node) {
	all := examples()
	for _, leaf := range root.Leaves(true) {
		lines := all[strings.TrimPrefix(leaf.FullPath(), root.Name+" ")]
		if len(lines) == 0 {
			continue
		}
		text := "Examples:\n\n    " + root.Name + " " + strings.Join(lines, "\n    "+root.Name+" ")
		if leaf.Detail != "" {
			text = leaf.Detail + "\n\n" + text
		}
		leaf.Detail = text
	}
}
