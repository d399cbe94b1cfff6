package doctor

import (
	"testing"
	"time"
)

func TestSettings(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		settings []string
		status   Status
		what     string // "": all is well
	}{
		{nil, OK, "all settings can be read"},
		{[]string{"WEBHOOK_MAX_RETRYS=3"}, Warning, "WEBHOOK_MAX_RETRYS has no effect"},
		{[]string{"WEBHOOK_SECRET="}, Failure, "WEBHOOK_SECRET is not set"},
		{[]string{"WEBHOOK_SECRET=hunter2hunter"}, Warning, "WEBHOOK_SECRET is short"},
		{[]string{"WEBHOOK_SECRET=" + good + ",aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}, Warning, "WEBHOOK_SECRET repeats itself"},
		{[]string{"WEBHOOK_SECRET=this-one-is-long-but-changeme"}, Warning, "one of an example"},
		{[]string{"WEBHOOK_TOKEN=0123456789"}, Warning, "WEBHOOK_TOKEN is short"},
		{[]string{"ADMIN_TOKEN=0123456789"}, Failure, "ADMIN_TOKEN: want at least 16 characters"},
		{[]string{"ADMIN_TOKEN=0123456789abcdefgh"}, Warning, "ADMIN_TOKEN is short"},
		{[]string{"MEMRELAY_KEY="}, Warning, "MEMRELAY_KEY is not set"},
		{[]string{"MEMRELAY_KEY=0123456789abcdefgh"}, Warning, "MEMRELAY_KEY is short"},
		{[]string{"WEBHOOK_BASE_URL=http://relay.example.com"}, Failure, "WEBHOOK_BASE_URL: want an https URL"},
		{[]string{"MEM0_WEBHOOK_URL=https://example.com/hook"}, Warning, "MEM0_WEBHOOK_SECRET is not set"},
		{[]string{"MEM0_WEBHOOK_URL=http://example.com/hook", "MEM0_WEBHOOK_SECRET=" + good}, Warning, "MEM0_WEBHOOK_URL is plain http"},
		{[]string{"MEM0_WEBHOOK_URL=http://127.0.0.1:9/hook", "MEM0_WEBHOOK_SECRET=" + good}, OK, "all settings can be read"},
		{[]string{"WEBHOOK_MAX_RETRIES=0", "LOG_FORMAT=xml"}, Failure, "LOG_FORMAT: want json or text"},
		{[]string{"WEBHOOK_MAX_RETRIES=0", "LOG_FORMAT=xml"}, Failure, "WEBHOOK_MAX_RETRIES"},
	} {
		newRoomAt(t, "", c.settings...).finds("settings", c.status, c.what)
	}
}

func TestClock(t *testing.T) {
	t.Parallel()
	r := newRoom(t)
	for _, c := range []struct {
		off    time.Duration
		status Status
		what   string
	}{
		{0, OK, "agrees with the database's"},
		{3 * time.Second, Warning, "ahead of the database's"},
		{-3 * time.Second, Warning, "behind the database's"},
		{time.Minute, Failure, "this machine's clock is 1m0s ahead of"},
		{-time.Minute, Failure, "this machine's clock is 1m0s behind"},
	} {
		r.options.Now = func() time.Time { return time.Now().Add(c.off) }
		r.finds("clock", c.status, c.what)
	}
}

func TestSkew(t *testing.T) {
	t.Parallel()
	at := func(s int) time.Time { return time.Unix(1_000_000+int64(s), 0) }
	for _, c := range []struct {
		least, most, asked, answered int
		want                         time.Duration
	}{
		{10, 10, 9, 11, 0},  // it was that time while it was asked
		{10, 11, 11, 11, 0}, // a Date is cut to the second
		{10, 11, 14, 15, 3 * time.Second},
		{10, 11, 4, 5, -5 * time.Second},
		{10, 11, 0, 30, 0}, // so slow an answer says nothing
	} {
		if got := skew(at(c.least), at(c.most), at(c.asked), at(c.answered)); got != c.want {
			t.Errorf("%+v: %s", c, got)
		}
	}
}
