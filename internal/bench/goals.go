package main

import "fmt"

// What has a goal is named here, and where it is measured.
const (
	baseline      = "pgbench: events + bodies + jobs rows, one transaction per event"
	doorAt128     = "door at 128 connections"
	doorAtHalf    = "door at half of that rate, open loop"
	idleMemory    = "memory, idle"
	doorMemory    = "memory, at full load of the door"
	fullMemory    = "memory, at full load of everything"
	drained       = "backlog drained, from payloads to memory"
	toOneEndpoint = "webhooks to one endpoint, from the outbox's commit on"
	apiToReceiver = "memory API at 200/s: from the call to the receiver"
	apiAlone      = "memory API at 50/s, no subscriber: p50"
	apiFollowed   = "memory API at 50/s, three subscribers: p50"
	besideTen     = "100/s of one source beside 1,000/s of another"
	besideFlood   = "100/s of one source beside 128 connections of another"
)

// walkName is the whole walk at a rate, to where.
func walkName(rate int, where string) string {
	return fmt.Sprintf("walk at %d/s: receipt to %s", rate, where)
}

// goal is what a figure's median should be: at most limit, or at least; in units of
// the median of another figure, where it names one.
type goal struct {
	says    string
	limit   float64
	atLeast bool
	of      string
}

// goals are by what is measured.
func goals() map[string]goal {
	return map[string]goal{
		doorAt128:                             {says: "≥ 2.0 × pgbench", limit: 2, atLeast: true, of: baseline},
		doorAtHalf + ": p99":                  {says: "< 25 ms", limit: 25},
		drained:                               {says: "≥ 3,000/s", limit: 3000, atLeast: true},
		toOneEndpoint:                         {says: "≥ 3,000/s", limit: 3000, atLeast: true},
		walkName(100, "memory") + ": p99":     {says: "< 500 ms", limit: 500},
		walkName(100, "receiver") + ": p99":   {says: "< 1 s", limit: 1000},
		besideTen + ": door, p99, of alone":   {says: "≤ 2", limit: 2},
		besideTen + ": memory, p99, of alone": {says: "≤ 2", limit: 2},
		apiToReceiver + ": p50":               {says: "≤ 5 ms", limit: 5},
		apiToReceiver + ": p95":               {says: "≤ 12 ms", limit: 12},
		idleMemory:                            {says: "≤ 60 MB", limit: 60},
		doorMemory:                            {says: "≤ 150 MB", limit: 150},
		fullMemory:                            {says: "≤ 150 MB", limit: 150},
		apiFollowed:                           {says: "≤ 1.1 × without", limit: 1.1, of: apiAlone},
		pageLimit:                             {says: "< 50 ms", limit: 50},
		deletedRate:                           {says: "≥ 10,000/s", limit: 10_000, atLeast: true},
		doorDeleted + ": p99":                 {says: "≤ 2 × without", limit: 2, of: doorUndeleted + ": p99"},
		grown(doorAt128, million):             {says: "≥ 0.9 × empty", limit: 0.9, atLeast: true, of: grown(doorAt128, 0)},
		grown(doorAt128, 10*million):          {says: "≥ 0.9 × empty", limit: 0.9, atLeast: true, of: grown(doorAt128, 0)},
		grown(drained, million):               {says: "≥ 0.9 × empty", limit: 0.9, atLeast: true, of: grown(drained, 0)},
		grown(drained, 10*million):            {says: "≥ 0.9 × empty", limit: 0.9, atLeast: true, of: grown(drained, 0)},
	}
}
