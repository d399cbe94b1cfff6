// Package container starts Postgres in a container for the tests of machines
// that have Docker and no Postgres. It is a package of its own so that only
// dbtest links what that takes.
package container

import (
	"context"
	"fmt"

	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/modules/postgres"
)

// Start returns the URL of a new server that answers, for its superuser, and
// what ends it. The server keeps nothing and has the limits of the private one.
func Start(ctx context.Context) (url string, stop func(context.Context) error, err error) {
	c, err := postgres.Run(ctx, "postgres:17-alpine",
		testcontainers.WithCmd("postgres",
			"-c", "max_connections=300", "-c", "timezone=UTC", "-c", "jit=off",
			"-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off"),
		postgres.BasicWaitStrategies(),
	)
	stop = func(ctx context.Context) error {
		if err := testcontainers.TerminateContainer(c, testcontainers.StopContext(ctx)); err != nil {
			return fmt.Errorf("stop the test container: %w", err)
		}
		return nil
	}
	if err == nil {
		url, err = c.ConnectionString(ctx, "sslmode=disable")
	}
	if err != nil {
		// One that runs but did not become ready would stay.
		_ = stop(context.WithoutCancel(ctx))
		return "", nil, fmt.Errorf("start a test container: %w", err)
	}
	return url, stop, nil
}
