package endpoint

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/uuid"
)

func TestNoSuchEndpoint(t *testing.T) {
	t.Parallel()
	o := newOffice(t, memrelayKey)
	gone, _ := o.create(t, Settings{Name: new("gone")})
	if err := o.Delete(t.Context(), ada, "gone"); err != nil {
		t.Fatal(err)
	}
	before := len(o.audits(t))
	for _, which := range []string{"gone", gone.ID.String(), uuid.NewString(), "", "other", "a\x00b", "\xff"} {
		_, get := o.Get(t.Context(), which)
		_, _, change := o.Change(t.Context(), ada, which, Settings{})
		_, pause := o.Pause(t.Context(), ada, which, "")
		_, resume := o.Resume(t.Context(), ada, which, "")
		_, _, rotate := o.Rotate(t.Context(), ada, which, "hmac", 0, "")
		for i, err := range []error{get, change, pause, resume, rotate, o.Delete(t.Context(), ada, which)} {
			if !errors.Is(err, ErrNotFound) {
				t.Errorf("%q, %d: %v, want ErrNotFound", which, i, err)
			}
		}
	}
	if len(o.audits(t)) != before {
		t.Error("the audit tells of what was not done")
	}
}

func TestTheEndpointOfTheSettingsCanOnlyBePaused(t *testing.T) {
	t.Parallel()
	o := newOffice(t, memrelayKey)
	id := uuid.New()
	o.exec(t, `INSERT INTO endpoints (id, name, url, events, timeout) VALUES ($1, 'env', 'https://example.com', '{*}', '30 seconds')`, id)
	_, _, change := o.Change(t.Context(), ada, "env", Settings{Description: new("d")})
	_, _, byID := o.Change(t.Context(), ada, id.String(), Settings{Description: new("d")})
	_, _, rotate := o.Rotate(t.Context(), ada, "env", "hmac", 0, "")
	for i, err := range []error{change, byID, rotate, o.Delete(t.Context(), ada, "env")} {
		if !errors.Is(err, ErrEnv) {
			t.Errorf("%d: %v, want ErrEnv", i, err)
		}
	}
	if _, _, err := o.Create(t.Context(), ada, Settings{Name: new("env"), URL: new("https://example.com")}); !errors.Is(err, ErrInvalid) {
		t.Errorf("another one of that name: %v", err)
	}
	if e, err := o.Pause(t.Context(), ada, "env", ""); err != nil || e.Status != Paused {
		t.Errorf("pause: %+v, %v", e, err)
	}
	if e, err := o.Resume(t.Context(), ada, "env", ""); err != nil || e.Status != Active || o.woken(t, id) != 1 {
		t.Errorf("resume: %+v, %v", e, err)
	}
}

func TestPauseHoldsAndResumeSends(t *testing.T) {
	t.Parallel()
	o := newOffice(t, memrelayKey)
	e, _ := o.create(t, Settings{Name: new("crm")})
	o.waiting(t, e.ID)
	o.exec(t, `UPDATE endpoints SET status = 'disabled', status_reason = 'it failed', failing_since = now(), failures = 9, warned_at = now(),
		resume_at = now() + interval '1 hour', probing = true, full_until = now() - interval '1 second'`)

	paused, err := o.Pause(t.Context(), ada, "crm", "they asked for it")
	if err != nil {
		t.Fatal(err)
	}
	if paused.Status != Paused || paused.StatusReason != "they asked for it" || paused.Open != 1 || paused.Failures != 9 || paused.Probing || o.woken(t, e.ID) != 0 {
		t.Errorf("paused: %+v", paused)
	}
	if one[string](t, o, `SELECT status FROM deliveries`) != "pending" || one[int](t, o, `SELECT count(*) FROM river_job`) != 0 {
		t.Error("a pause changed more than one row")
	}
	if _, err := o.Pause(t.Context(), ada, "crm", strings.Repeat("x", 1001)); !errors.Is(err, ErrInvalid) {
		t.Errorf("a long reason: %v", err)
	}
	if _, err := o.Resume(t.Context(), ada, "crm", "a\x00b"); !errors.Is(err, ErrInvalid) {
		t.Errorf("a reason that Postgres has no room for: %v", err)
	}

	resumed, err := o.Resume(t.Context(), ada, "crm", "")
	if err != nil {
		t.Fatal(err)
	}
	if resumed.Status != Active || resumed.StatusReason != "" || resumed.FailingSince != nil || resumed.Failures != 0 || resumed.ResumeAt != nil ||
		one[bool](t, o, `SELECT warned_at IS NOT NULL OR probing FROM endpoints`) || !resumed.UpdatedAt.After(paused.UpdatedAt) {
		t.Errorf("resumed: %+v", resumed)
	}
	if o.woken(t, e.ID) != 1 || one[bool](t, o, `SELECT due_at > now() FROM endpoints`) {
		t.Error("what waits is not sent at once")
	}
}

func TestADeletedEndpointIsTidiedUp(t *testing.T) {
	t.Parallel()
	o := newOffice(t, memrelayKey)
	e, _ := o.create(t, Settings{Name: new("crm")})
	o.waiting(t, e.ID)
	if _, err := o.Pause(t.Context(), ada, "crm", ""); err != nil {
		t.Fatal(err)
	}
	if err := o.Delete(t.Context(), ada, "crm"); err != nil {
		t.Fatal(err)
	}
	if o.woken(t, e.ID) != 1 {
		t.Error("nobody cancels what is open")
	}
	if !one[bool](t, o, `SELECT deleted_at IS NOT NULL AND sealed IS NULL FROM endpoints`) {
		t.Error("its secrets are still there")
	}
	if all, err := o.List(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("it is listed: %v, %v", all, err)
	}
}
