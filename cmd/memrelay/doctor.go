package main

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/memrelay/memrelay/internal/doctor"
)

type doctorCommand struct {
	Only   []string `help:"Make these checks alone, with commas." placeholder:"CHECK"`
	Strict bool     `help:"Fail for warnings, too."`
}

// Help says which checks there are.
func (doctorCommand) Help() string { return "Checks: " + strings.Join(doctor.Names(), ", ") + "." }

// Run looks at everything, says what it found, and fails when something is broken.
func (c doctorCommand) Run(ctx context.Context, s streams) error {
	found, err := doctor.Examine(ctx, doctor.Options{
		Environ: s.environ, Only: c.Only, Version: version, Now: time.Now,
		Missing: withoutScopes, Transport: http.DefaultTransport, FreeSpace: doctor.FreeSpace,
	})
	if err != nil {
		return usage(fmt.Errorf("--only: %w", err))
	}
	report := doctor.NewReport(found)
	if s.asJSON {
		err = s.json(report)
	} else {
		err = report.Print(s.out)
	}
	if err != nil {
		return err
	}
	if n := report.Counts[doctor.Failure]; n > 0 {
		return fmt.Errorf("doctor: something is broken, findings: %d", n)
	}
	if n := report.Counts[doctor.Warning]; n > 0 && c.Strict {
		return fmt.Errorf("doctor: something should be seen to, and --strict was said, findings: %d", n)
	}
	return nil
}

// withoutScopes says what does not work with the scopes that Zoho gave.
func withoutScopes(given []string) []string {
	var without []string
	for _, s := range missing(given) {
		without = append(without, fmt.Sprintf("without the scope %s: %s", s.name, s.without))
	}
	return without
}
