package process

import (
	"context"
	"fmt"

	"github.com/memrelay/memrelay/db"
)

// maxCounted is how far what belongs to an account is counted for its overview.
const maxCounted = 1000

// overviewOf names the record whose memory is the overview that a unit brings up
// to date: that of the account whose lane it closes.
func (g *syncGroup) overviewOf(u synced) (recordKey, bool) {
	if !g.connected || u.rest || !isAccount(u.accountID) {
		return recordKey{}, false
	}
	return recordKey{"Accounts", u.accountID}, true
}

// overview compares what is remembered of the accounts whose lanes are closed
// with what is true now: their own fields, and how much belongs to them by the
// records that this transaction has written already.
func (g *syncGroup) overview(ctx context.Context, q *db.Queries) error {
	var ids []string
	var keys []recordKey
	for _, u := range g.closing() {
		if k, ok := g.overviewOf(u); ok {
			ids, keys = append(ids, u.accountID), append(keys, k)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	rows, err := q.SummarizeAccounts(ctx, db.SummarizeAccountsParams{AccountIds: ids, Most: maxCounted + 1})
	if err != nil {
		return fmt.Errorf("summarize accounts: %w", err)
	}
	summaries := make(map[string][]string, len(rows))
	for _, r := range rows {
		summaries[r.AccountID] = summary(r)
	}
	for _, k := range keys {
		g.changes = append(g.changes, changesOf(g.records[k], summaries[k.id], g.memories[k], g.touched[k], g.newID)...)
	}
	return nil
}

// summary are the lines of what there is; of what there is none there is no line.
func summary(r db.SummarizeAccountsRow) []string {
	var lines []string
	add := func(name string, n int64, more string) {
		if n > 0 {
			lines = append(lines, name+": "+counted(n)+more)
		}
	}
	open := func(n int64, worth string) string {
		switch {
		case n == 0:
			return ", none of them open"
		case worth != "" && worth != "0":
			return fmt.Sprintf(", %s of them open, worth %s", counted(n), worth)
		default:
			return fmt.Sprintf(", %s of them open", counted(n))
		}
	}
	add("Contacts", r.Contacts, "")
	add("Deals", r.Deals, open(r.OpenDeals, r.OpenAmount))
	add("Tasks", r.Tasks, open(r.OpenTasks, ""))
	add("Notes", r.Notes, "")
	add("Activities", r.Activities, "")
	return lines
}

func counted(n int64) string {
	if n > maxCounted {
		return fmt.Sprintf("more than %d", maxCounted)
	}
	return fmt.Sprint(n)
}
