// Package process turns events into memory. In goes a ProcessEvent job; it asks
// which account the event belongs to, gives the event a revision of that account
// and wakes the account's lane (route.go). In goes a SyncAccount job, the lane's
// one job; it takes what the lane has to do (take.go), asks the source what is
// true of the records now (source.go), and in one transaction writes records,
// memories, their history, outbox rows and what the lane does next (sync.go).
// Out come outbox rows and a Relay job.
//
// What other memory systems tell is about no account: the event's own job follows
// it, or only ends it, in one transaction (apply.go).
//
// Each write is one unit of a grouped transaction, written in five steps: lock,
// load, apply, write, count. What applies is pure: fold.go, change.go.
package process
