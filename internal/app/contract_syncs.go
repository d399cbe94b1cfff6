package app

import (
	"github.com/memrelay/memrelay/internal/admin"
	"github.com/memrelay/memrelay/internal/contract"
	"github.com/memrelay/memrelay/internal/reconcile"
	"github.com/memrelay/memrelay/internal/respond"
)

// syncList is a part of a list, newest first.
type syncList struct {
	Syncs      []reconcile.Status `json:"syncs"`
	NextCursor string             `json:"next_cursor,omitempty"`
}

// syncOperations describes the routes over syncs: what they answer is reconcile's.
func syncOperations() contract.Section {
	var problems []*respond.Error
	for _, err := range []error{reconcile.ErrEnded, reconcile.ErrNotRunning, reconcile.ErrNotPaused, reconcile.ErrNoModules} {
		if face, ok := syncProblem(err).(*respond.Error); ok { //nolint:errorlint // it is made there
			problems = append(problems, face)
		}
	}
	s := admin.SyncOperations(syncList{}, reconcile.Status{}, `{"id":"01a201a3-85e8-7166-bd98-bdae5e578907","kind":"full","state":"running","requested_by":"token/operator","since":null,`+
		`"percent":41,"seconds_left":60,"expected":5210,"read":2136,"changed":12,"gone":1,"missed":2,"open_errors":0,"calls":31,"waits_for":"","waits_until":null,"last_error":"",`+
		`"started_at":"2026-11-22T05:03:44.621429Z","updated_at":"2026-11-22T05:04:44.621429Z","finished_at":null,"parts":[{"module":"Contacts","phase":"records","expected":5210,"read":2136,`+
		`"changed":12,"gone":1,"missed":2,"last_error":""}]}`, problems)
	s.Types = append(s.Types,
		contract.Type{Of: syncList{}, Name: "SyncPage"}, contract.Type{Of: reconcile.Status{}, Name: "Sync"},
		contract.Type{Of: reconcile.Part{}, Name: "SyncPart"}, contract.Type{Of: reconcile.RecordError{}, Name: "SyncRecordError"})
	return s
}
