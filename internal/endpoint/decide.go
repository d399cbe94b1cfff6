package endpoint

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/memrelay/memrelay/db"
)

// LongestOverlap is the longest that an old key signs beside a new one.
const LongestOverlap = 7 * 24 * time.Hour

// Pause holds what is open of an endpoint, and what comes, until it is resumed. It
// returns ErrNotFound, or an ErrInvalid for a reason that is too long.
func (s *Store) Pause(ctx context.Context, who Actor, which, reason string) (Endpoint, error) {
	if err := reasonProblem(reason); err != nil {
		return Endpoint{}, err
	}
	return s.inTx(ctx, which, func(tx pgx.Tx, row db.Endpoint) (db.Endpoint, error) {
		paused, err := db.New(tx).PauseEndpoint(ctx, db.PauseEndpointParams{ID: row.ID, Reason: reason})
		if err != nil {
			return row, fmt.Errorf("pause endpoint: %w", err)
		}
		return paused, audit(ctx, tx, who, "pause", row.ID, decision(row, reason))
	})
}

// Resume makes an endpoint active, whether it was paused or disabled, forgets that it
// failed, and sends what waits at once. It returns ErrNotFound, or an ErrInvalid for a
// reason that is too long.
func (s *Store) Resume(ctx context.Context, who Actor, which, reason string) (Endpoint, error) {
	if err := reasonProblem(reason); err != nil {
		return Endpoint{}, err
	}
	return s.inTx(ctx, which, func(tx pgx.Tx, row db.Endpoint) (db.Endpoint, error) {
		resumed, err := db.New(tx).ResumeEndpoint(ctx, row.ID)
		if err != nil {
			return row, fmt.Errorf("resume endpoint: %w", err)
		}
		if err := audit(ctx, tx, who, "resume", row.ID, decision(row, reason)); err != nil {
			return row, err
		}
		return resumed, Wake(ctx, tx, s.jobs, row.ID)
	})
}

// decision are the details of a decision: why, and how the endpoint was before.
func decision(row db.Endpoint, reason string) map[string]any {
	return map[string]any{"name": row.Name, "reason": reason, "before": map[string]any{
		"status": row.Status, "status_reason": row.StatusReason, "failures": row.Failures, "failing_since": row.FailingSince,
	}}
}

// Delete ends an endpoint for good: its secrets are forgotten, what is open is
// cancelled, its name is free. It returns ErrNotFound or ErrEnv.
func (s *Store) Delete(ctx context.Context, who Actor, which string) error {
	_, err := s.inTx(ctx, which, func(tx pgx.Tx, row db.Endpoint) (db.Endpoint, error) {
		if row.Name == EnvName {
			return row, ErrEnv
		}
		if err := db.New(tx).RemoveEndpoint(ctx, row.ID); err != nil {
			return row, fmt.Errorf("delete endpoint: %w", err)
		}
		details := map[string]any{"name": row.Name, "before": map[string]any{"url": withoutQuery(row.URL), "status": row.Status}}
		if err := audit(ctx, tx, who, "delete", row.ID, details); err != nil {
			return row, err
		}
		return row, Wake(ctx, tx, s.jobs, row.ID)
	})
	return err
}

// Rotate gives an endpoint a new key of a kind, which is the secret that is given, or
// a new one for "". The keys it had go on signing for overlap, 0 to LongestOverlap.
// It returns ErrNotFound, ErrEnv, an ErrInvalid, ErrNoKey, or seal.ErrWrongKey; for
// more than MostKeys of the kind an ErrInvalid.
func (s *Store) Rotate(ctx context.Context, who Actor, which, kind string, overlap time.Duration, secret string) (Endpoint, []Secret, error) {
	var p problems
	if !slices.Contains(keyKinds(), kind) {
		p.add("kind", "%s is none of %s", quote(kind), strings.Join(keyKinds(), ", "))
	} else if secret != "" {
		if problem := secretProblem(kind, secret); problem != "" {
			p.add("secret", "%s", problem)
		}
	}
	if overlap < 0 || overlap > LongestOverlap {
		p.add("overlap", "want 0s to %s", LongestOverlap)
	}
	if err := p.join(); err != nil {
		return Endpoint{}, nil, err
	}
	var made Key
	e, err := s.inTx(ctx, which, func(tx pgx.Tx, row db.Endpoint) (_ db.Endpoint, err error) {
		if row.Name == EnvName {
			return row, ErrEnv
		}
		before := draft{row: row}
		if before.credentials, err = Open(s.box, row.ID, row.Sealed); err != nil {
			return row, err
		}
		after := before
		if made, err = s.rotate(&after.credentials, kind, overlap, secret); err != nil {
			return row, err
		}
		if after.row.Sealed, err = after.credentials.sealFor(s.box, row.ID); err != nil {
			return row, err
		}
		rotated, err := db.New(tx).UpdateEndpoint(ctx, after.update(false))
		if err != nil {
			return row, fmt.Errorf("store endpoint: %w", err)
		}
		c := compare(before.facts(), after.facts())
		details := map[string]any{"name": row.Name, "kind": kind, "overlap": Duration(overlap), "before": c.before, "after": c.after}
		return rotated, audit(ctx, tx, who, "rotate", row.ID, details)
	})
	if err != nil {
		return Endpoint{}, nil, err
	}
	return e, []Secret{made.shown()}, nil
}

func (s *Store) rotate(c *Credentials, kind string, overlap time.Duration, secret string) (Key, error) {
	now := s.now().UTC()
	c.prune(now)
	if !c.has(kind) {
		return Key{}, &FieldError{Field: "kind", Problem: fmt.Sprintf("the endpoint has no %s key: change its signing", kind)}
	}
	if slices.ContainsFunc(c.Keys, func(k Key) bool { return k.Secret == secret }) {
		return Key{}, &FieldError{Field: "secret", Problem: "is one that the endpoint has"}
	}
	c.retire(kind, now.Add(overlap), now)
	if c.count(kind) >= MostKeys {
		return Key{}, &FieldError{Field: "overlap", Problem: fmt.Sprintf("%d %s keys sign already, and more may not: want 0s, which ends them", MostKeys, kind)}
	}
	k, err := newKey(s.random, kind, secret, now)
	if err != nil {
		return Key{}, err
	}
	c.add(k)
	return k, nil
}
