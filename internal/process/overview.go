package process

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/memrelay/memrelay/db"
)

// maxCounted is how far what belongs to an account is counted for its overview.
const maxCounted = 1000

// overviewOf names the record whose memory is the overview that a unit brings up
// to date: that of the account whose lane it closes, or of which it observes that
// very record.
func (g *syncGroup) overviewOf(u synced) (recordKey, bool) {
	k := recordKey{"Accounts", u.accountID}
	observed := func(o Observation) bool { return recordKey{o.Module, o.RecordID} == k }
	if !g.connected || !isAccount(u.accountID) || u.rest && !slices.ContainsFunc(u.observations, observed) {
		return recordKey{}, false
	}
	return k, true
}

// overview compares what is remembered of those accounts with what is true now:
// their own fields, and how much belongs to them by the records that this
// transaction has written already.
func (g *syncGroup) overview(ctx context.Context, q *db.Queries) error {
	wanted := map[recordKey]bool{}
	for _, i := range g.live {
		if k, ok := g.overviewOf(g.units[i]); ok {
			wanted[k] = true
		}
	}
	if len(wanted) == 0 {
		return nil
	}
	keys := sortedRecordKeys(wanted)
	_, ids := splitKeys(keys)
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
	open := func(n, of int64, worth string) string {
		switch {
		case of > maxCounted:
			return "" // not all were looked at, and another time it would be others
		case n == 0:
			return ", none of them open"
		case strings.Trim(worth, "0.") != "":
			return fmt.Sprintf(", %d of them open, worth %s", n, worth)
		default:
			return fmt.Sprintf(", %d of them open", n)
		}
	}
	add("Contacts", r.Contacts, "")
	add("Deals", r.Deals, open(r.OpenDeals, r.Deals, r.OpenAmount))
	add("Tasks", r.Tasks, open(r.OpenTasks, r.Tasks, ""))
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
