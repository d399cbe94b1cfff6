package admin_test

import (
	"strings"
	"testing"
)

// What cannot be kept is the fault of whoever sends it, wherever it stands.
func TestTextsThatCannotBeKept(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.seed(t)
	for path, fields := range map[string]string{
		"/admin/audit": "actor action object", "/admin/rejected": "code route address", "/admin/jobs": "kind queue state", "/admin/stats": "window",
		"/admin/syncs": "kind cursor", "/admin/deliveries": "user_id endpoint event", "/admin/events": "module error record_id", "/admin/redeliveries": "endpoint",
		"/admin/events/stream": "module source",
	} {
		for field := range strings.FieldsSeq(fields) {
			for _, text := range []string{"a%00b", "%ff"} {
				wantProblem(t, d.as(t, "reader", "GET", path+"?"+field+"="+text, ""), 422, "invalid_field", field)
			}
		}
	}
	for _, route := range []string{
		"DELETE /admin/tokens/{}", "POST /admin/channels/{}/renew", "POST /admin/channels/{}/pause", "POST /admin/queues/{}/pause", "GET /admin/jobs/{}",
		"GET /admin/endpoints/{}", "DELETE /admin/endpoints/{}", "GET /admin/syncs/{}", "POST /admin/syncs/{}/pause", "GET /admin/records/Contacts/{}",
		"POST /admin/dead/event/{}/retry",
	} {
		for _, text := range []string{"%00", "a%00", "%FF"} {
			method, path, _ := strings.Cut(strings.Replace(route, "{}", text, 1), " ")
			wantProblem(t, d.as(t, "writer", method, path, ""), 404, "not_found", "")
		}
	}
	wantProblem(t, d.as(t, "writer", "POST", "/admin/syncs", `{"kind":"account","account_id":"7\u0000"}`), 422, "invalid_field", "account_id")
}

// Why somebody decides so is shown to others: all routes take the same for a reason.
func TestReasonsThatAreNone(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.seed(t)
	for _, route := range []string{
		"/admin/queues/sync/pause", "/admin/queues/sync/resume", "/admin/jobs/1/cancel", "/admin/jobs/1/retry", "/admin/deliveries/1/resend",
		"/admin/events/1/replay", "/admin/endpoints/crm/pause", "/admin/endpoints/crm/resume", "/admin/endpoints/crm/recover", "/admin/endpoints/crm/replay",
		"/admin/dead/event/1/discard", "/admin/replays", "/admin/dead/retry",
	} {
		more := ""
		if strings.HasSuffix(route, "/replays") || strings.HasSuffix(route, "/dead/retry") {
			more = `"error":"no owner",`
		}
		for _, reason := range []string{`a\u0000b`, `\u001b[2J`, strings.Repeat("x", 2001)} {
			wantProblem(t, d.as(t, "writer", "POST", route, `{`+more+`"reason":"`+reason+`"}`), 422, "invalid_field", "reason")
		}
	}
}
