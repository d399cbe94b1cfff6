package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/memrelay/memrelay/internal/dbtest"
	"github.com/memrelay/memrelay/internal/doctor"
	"github.com/memrelay/memrelay/internal/zoho/zohotest"
)

func TestDoctorExitCodes(t *testing.T) {
	t.Parallel()
	const secret = "WEBHOOK_SECRET=uN7tq0Zb4YxP1sLw9RkD3vEcHg"
	well := []string{secret, "MEMRELAY_KEY=uN7tq0Zb4YxP1sLw9RkD3vEcHg", "DATABASE_URL=" + dbtest.URL(t)}
	for _, c := range []struct {
		environ []string
		args    string
		code    int
		says    string // on stdout
	}{
		{well, "doctor --only settings,migrations", exitDone, "All is well"},
		{well, "doctor --only settings,migrations --strict", exitDone, "All is well"},
		{[]string{secret, well[2]}, "doctor --only settings", exitDone, "! MEMRELAY_KEY is not set"},
		{[]string{secret, well[2]}, "doctor --only settings --strict", exitFailed, "! MEMRELAY_KEY is not set"},
		{well[:2], "doctor", exitFailed, "✗ DATABASE_URL is not set"},
		{append([]string{"WEBHOOK_MAX_RETRIES=0"}, well...), "doctor", exitFailed, "✗ WEBHOOK_MAX_RETRIES"},
		{well, "doctor --only weather", exitUsage, ""},
		{well, "doctor weather", exitUsage, ""},
	} {
		got := commandWith(t, c.environ, strings.Fields(c.args)...)
		if got.code != c.code || !strings.Contains(got.out, c.says) || (got.code == exitDone) != (got.err == "") {
			t.Errorf("%s: exit code %d\n%s%s", c.args, got.code, got.out, got.err)
		}
	}
}

func TestDoctorForMachines(t *testing.T) {
	t.Parallel()
	server := zohotest.New(zohotest.Options{Scopes: []string{"ZohoCRM.modules.ALL"}})
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	got := commandWith(t, []string{
		"WEBHOOK_SECRET=" + typedSecret, "DATABASE_URL=" + dbtest.URL(t), "ZOHO_CLIENT_ID=" + zohotest.ClientID, "ZOHO_CLIENT_SECRET=" + zohotest.ClientSecret,
		"ZOHO_REFRESH_TOKEN=" + zohotest.RefreshToken, "ZOHO_API_URL=" + server.URL(), "ZOHO_ACCOUNTS_URL=" + server.URL(),
	}, "doctor", "--json")
	report := decode[doctor.Report](t, got)
	for _, name := range doctor.Names() {
		if !slices.ContainsFunc(report.Findings, func(f doctor.Finding) bool { return f.Check == name }) {
			t.Errorf("nothing of %s", name)
		}
	}
	// Each scope that was not given, with what does not work without it.
	if !slices.ContainsFunc(report.Findings, func(f doctor.Finding) bool {
		return f.Status == doctor.Warning && strings.Contains(f.Found, "without the scope ZohoCRM.notifications.ALL: Zoho's notification channels")
	}) {
		t.Errorf("no scope is missed: %+v", report.Findings)
	}
	// The server of the tests is not durable.
	if got.code != exitFailed || report.Status != doctor.Failure || report.Counts[doctor.Failure] == 0 {
		t.Errorf("exit code %d, %s, %v", got.code, report.Status, report.Counts)
	}
	for _, secret := range []string{typedSecret, zohotest.ClientSecret, zohotest.RefreshToken} {
		if strings.Contains(got.out+got.err, secret) {
			t.Errorf("%s is printed", secret)
		}
	}
}
