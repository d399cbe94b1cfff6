// Package reconcile holds what Zoho lists against what is known of its records.
// In goes a Reconcile job, which names a sync; out comes an event for every
// difference, with its body and its ProcessEvent job, as if a webhook had told
// of it: so it is audited, deduplicated and worked like any other.
//
// A sync is cut into parts, one for a module, and a part into pages. A page is
// read outside of any transaction, and what it says is stored in one together
// with the cursor of the next (page.go). So a sync that is cut anywhere goes on
// after its last page, and an attempt that was overtaken finds another cursor
// than it read from and stores nothing. Who starts syncs is in schedule.go and
// operate.go, how they end in finish.go. What decides is pure: compare.go.
package reconcile
