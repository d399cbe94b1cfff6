package sqlrole_test

import (
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"

	"github.com/memrelay/memrelay/internal/admin"
	"github.com/memrelay/memrelay/internal/config"
	"github.com/memrelay/memrelay/internal/outbound"
	"github.com/memrelay/memrelay/migrations"
)

// newAdmin is an operator's desk whose jobs are those of a node with default settings, and
// the actor that the database sees.
func newAdmin(t *testing.T, pool *pgxpool.Pool) (*admin.Admin, admin.Actor) {
	t.Helper()
	cfg, _, err := config.FromEnv([]string{"DATABASE_URL=postgres://unused"})
	if err != nil {
		t.Fatal(err)
	}
	jobs, err := river.NewClient(riverpgxv5.New(pool), &river.Config{MaxAttempts: cfg.Inbound.MaxRetries, Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	return admin.New(pool, jobs, outbound.Retry), admin.Actor{Name: ask[string](t, pool, t.Context(), `SELECT session_user::text`)}
}

// pictureOf is everything that operators change. What differs from run to run is left
// out: chance, times (that there is one is said), and which process counts.
func pictureOf(t *testing.T, pool *pgxpool.Pool) []string {
	t.Helper()
	return list[string](t, pool, `
		SELECT format('event %s %s %s %s %s %s %s', id, status, account_id, revision, failures, last_error, ARRAY(
		           SELECT k FROM jsonb_object_keys(jsonb_strip_nulls(to_jsonb(e))) AS k ORDER BY k)) FROM events e
		UNION ALL SELECT format('run of %s, of version %s', event_id, substr(replay_id::text, 15, 1)) FROM event_runs WHERE created_at > now() - interval '1 minute'
		UNION ALL SELECT format('delivery %s %s %s %s %s', id, status, attempts, failures, last_error) FROM deliveries
		UNION ALL SELECT 'job ' || (to_jsonb(j) - 'id' - 'created_at' - 'scheduled_at')::text
		           || CASE WHEN j.created_at = j.scheduled_at AND j.scheduled_at <= clock_timestamp() THEN ' due' ELSE ' not due' END
		          FROM river_job j WHERE id > 2 -- those of the story
		UNION ALL SELECT format('counter %s %s', name, sum(value)) FROM counters GROUP BY name
		UNION ALL SELECT format('audit %s %s', to_jsonb(a) - 'id' - 'at' #- '{details,replay_id}',
		           (SELECT count(*) FROM event_runs r WHERE r.replay_id::text = a.details ->> 'replay_id' AND 'event/' || r.event_id = a.object))
		          FROM audit_log a WHERE at > now() - interval '1 minute'
		ORDER BY 1`)
}

// The function and the program leave the same behind: the job above all, column by
// column as the client of River inserts it, whose schema this is written for.
func TestReplayFromSQLIsReplay(t *testing.T) {
	t.Parallel()
	const written = 8
	if migrations.RiverVersion != written {
		t.Errorf("memrelay_replay writes river_job as of River's schema %d, this is %d: compare them, and say so in a new migration", written, migrations.RiverVersion)
	}
	for what, id := range map[string]int64{
		"processed": 1, "ignored": 3, "dead": 7,
		"still received": 6, "retrying": 5, "without a body": 8, "not there": 999,
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			ours, theirs := newStory(t), newStory(t)
			desk, who := newAdmin(t, theirs)
			before := pictureOf(t, ours)
			_, operator := newRole(t, ours, true)
			forget(t, ours)

			var replay uuid.UUID
			got := operator.QueryRow(t.Context(), `SELECT memrelay_replay($1, 'why')`, id).Scan(&replay)
			_, want := desk.Replay(t.Context(), who, id, "why")
			wantSameRefusal(t, got, want)
			wantSame(t, ours, theirs, operator, who)
			if want != nil {
				if diff := cmp.Diff(before, pictureOf(t, ours)); diff != "" {
					t.Errorf("refused, and yet changed (-before +after):\n%s", diff)
				}
			} else if replay.Version() != 7 {
				t.Errorf("replay %s is of version %d", replay, replay.Version())
			}
		})
	}
}

func TestDiscardFromSQLIsDiscard(t *testing.T) {
	t.Parallel()
	for _, letter := range []string{"event/7", "delivery/12", "event/1", "delivery/11", "event/999", "delivery/999", "sync/1", "event/x", ""} {
		t.Run(letter, func(t *testing.T) {
			t.Parallel()
			ours, theirs := newStory(t), newStory(t)
			desk, who := newAdmin(t, theirs)
			_, operator := newRole(t, ours, true)
			forget(t, ours)
			_, got := operator.Exec(t.Context(), `SELECT memrelay_discard($1, 'why')`, letter)
			l, want := admin.ParseLetter(letter)
			if want == nil {
				want = desk.DiscardDead(t.Context(), who, l, "why")
			}
			wantSameRefusal(t, got, want)
			wantSame(t, ours, theirs, operator, who)
		})
	}
}

// forget takes the line of audit_log away that the making of a role left.
func forget(t *testing.T, pool *pgxpool.Pool) {
	t.Helper()
	if _, err := pool.Exec(t.Context(), `DELETE FROM audit_log WHERE action = 'sql.role'`); err != nil {
		t.Fatal(err)
	}
}

// codes are the SQLSTATEs of what the program refuses.
var codes = map[error]string{
	admin.ErrNotFound: "P0002", admin.ErrNotFinal: "55006", admin.ErrNoBody: "55000", admin.ErrNotDead: "55000", admin.ErrLetter: "22023",
}

func wantSameRefusal(t *testing.T, got, want error) {
	t.Helper()
	if want == nil {
		if got != nil {
			t.Error(got)
		}
		return
	}
	var pg *pgconn.PgError
	if !errors.As(got, &pg) || pg.Message != want.Error() {
		t.Errorf("said %v, want %v", got, want)
		return
	}
	for sentinel, code := range codes {
		if errors.Is(want, sentinel) && pg.Code != code {
			t.Errorf("%v has code %s, want %s", got, pg.Code, code)
		}
	}
}

// wantSame fails unless the function left in one database what the program left in the
// other, but for the name of who did it.
func wantSame(t *testing.T, ours, theirs, operator *pgxpool.Pool, who admin.Actor) {
	t.Helper()
	me := ask[string](t, operator, t.Context(), `SELECT session_user::text`)
	got := pictureOf(t, ours)
	for i := range got {
		got[i] = regexp.MustCompile(`"actor": "sql, `+me+`"`).ReplaceAllString(got[i], fmt.Sprintf(`"actor": %q`, who.Name))
	}
	if diff := cmp.Diff(pictureOf(t, theirs), got); diff != "" {
		t.Errorf("left behind (-program +function):\n%s", diff)
	}
}

func TestReplayOfManyGoesOnAfterOneThatCannotBe(t *testing.T) {
	t.Parallel()
	pool := newStory(t)
	_, operator := newRole(t, pool, true)
	got := list[string](t, operator, `SELECT format('%s %s %s', event_id, replay_id IS NOT NULL, refused) FROM memrelay_replay_many(ARRAY[999, 7, 8, 6, 7, 1, NULL], 'why', 5)`)
	if diff := cmp.Diff([]string{
		"1 t ", "6 f event 6 is still being worked: only what has ended can be run again", "7 t ", "8 f event 8 cannot be run again: its body is no longer stored",
		"999 f event 999 not found", " f event <NULL> not found",
	}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	jobs := list[string](t, pool, `SELECT format('%s %s %s', args, state, max_attempts) FROM river_job WHERE id > 2 ORDER BY args::text`)
	if diff := cmp.Diff([]string{`{"event_id": 1} available 5`, `{"event_id": 7} available 5`}, jobs); diff != "" {
		t.Errorf("jobs (-want +got):\n%s", diff)
	}
	if n := ask[int](t, pool, t.Context(), `SELECT count(*) FROM counters WHERE process <> '00000000-0000-0000-0000-000000000000'`); n != 2 {
		t.Errorf("%d rows of counters, want one for each figure", n)
	}
}

func TestFunctionsRefuseWhatMakesNoSense(t *testing.T) {
	t.Parallel()
	pool := newStory(t)
	_, operator := newRole(t, pool, true)
	_, reader := newRole(t, pool, false)
	before := pictureOf(t, pool)
	for sql, want := range map[string]string{
		`SELECT memrelay_replay(7, 'why', 0)`:                                     "22023",
		`SELECT memrelay_replay(7, 'why', 40000)`:                                 "22023",
		`SELECT memrelay_replay(7, 'why', NULL)`:                                  "22023",
		`SELECT memrelay_replay(NULL::bigint)`:                                    "P0002",
		`SELECT memrelay_discard('event/7', ' ')`:                                 "22023",
		`SELECT memrelay_discard('event/7', NULL)`:                                "22023",
		`SELECT memrelay_discard(NULL, 'why')`:                                    "22023",
		`SELECT memrelay_replay(7, repeat('a', 2001))`:                            "22023",
		`SELECT memrelay_replay(7, E'a\nby token/root')`:                          "22023",
		`SELECT memrelay_replay(7, U&'\009B2J')`:                                  "22023",
		`SELECT * FROM memrelay_replay_many(ARRAY[7], E'\x1b[2J')`:                "22023",
		`SELECT memrelay_discard('event/7', repeat('ü', 2001))`:                   "22023",
		`SELECT memrelay_discard('delivery/12', E'the endpoint\x7f is gone')`:     "22023",
		`BEGIN; SELECT memrelay_replay(7, repeat('ü', 2000)); SELECT 1/0; COMMIT`: "22012",
		`SELECT memrelay_discard('event/0x7', 'why')`:                             "22023",
		`BEGIN READ ONLY; SELECT memrelay_replay(7, '')`:                          "25006",
	} {
		if _, err := operator.Exec(t.Context(), sql); codeOf(err) != want {
			t.Errorf("%s: %v, want %s", sql, err, want)
		}
		if _, err := operator.Exec(t.Context(), `ROLLBACK`); err != nil {
			t.Error(err)
		}
	}
	for _, sql := range []string{`SELECT memrelay_replay(7)`, `SELECT * FROM memrelay_replay_many(ARRAY[7])`, `SELECT memrelay_discard('event/7', 'why')`} {
		if _, err := reader.Exec(t.Context(), sql); codeOf(err) != refused {
			t.Errorf("a reader, %s: %v", sql, err)
		}
	}
	if diff := cmp.Diff(before, pictureOf(t, pool)); diff != "" {
		t.Errorf("changed (-before +after):\n%s", diff)
	}
}

// Of many who run an event again at once, one does.
func TestReplaysAtOnce(t *testing.T) {
	t.Parallel()
	pool := newStory(t)
	var wg sync.WaitGroup
	failed := make(chan error, 8)
	for range cap(failed) {
		wg.Go(func() {
			_, err := pool.Exec(t.Context(), `SELECT memrelay_replay(7)`)
			failed <- err
		})
	}
	wg.Wait()
	close(failed)
	done := 0
	for err := range failed {
		if err == nil {
			done++
		} else if codeOf(err) != "55006" {
			t.Error(err)
		}
	}
	if n := ask[int](t, pool, t.Context(), `SELECT count(*) FROM river_job WHERE id > 2`); done != 1 || n != 1 {
		t.Errorf("%d replays and %d jobs, want 1", done, n)
	}
}
