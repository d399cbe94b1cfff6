package localpg

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os/exec"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

const image = "postgres:17-alpine"

const (
	downloadLimit = 10 * time.Minute // of the image, on a slow line
	answerLimit   = time.Minute
)

// StartContainer runs Postgres through the docker command and returns the URL
// of a database that answers. A container of this name that already runs is
// taken over. The data is in the volume <name>-data, which stays; a throwaway
// container has none, and no durability. stop ends and removes the container.
//
// The port is open on the loopback address only, the password is no secret:
// whoever works on this machine can get in.
func StartContainer(ctx context.Context, name string, throwaway bool, log *slog.Logger) (dsn string, stop func(context.Context) error, err error) {
	ctx, cancel := context.WithTimeout(ctx, downloadLimit)
	defer cancel()
	if _, err := docker(ctx, "version", "--format", "{{.Server.Version}}"); err != nil {
		return "", nil, err
	}
	address, err := docker(ctx, "port", name, "5432/tcp")
	if err != nil { // no such container
		log.Info("starting a container", "image", image, "name", name)
		if _, err := docker(ctx, runArgs(name, throwaway)...); err != nil {
			return "", nil, err
		}
		if address, err = docker(ctx, "port", name, "5432/tcp"); err != nil {
			return "", nil, err
		}
	}
	stop = func(ctx context.Context) error {
		_, err := docker(ctx, "stop", name)
		return err
	}
	first, _, _ := strings.Cut(address, "\n")
	u := url.URL{Scheme: "postgres", User: url.UserPassword(superuser, superuser), Host: first, Path: "/postgres", RawQuery: "sslmode=disable"}
	if err := waitForContainer(ctx, u.String()); err != nil {
		return "", nil, errors.Join(fmt.Errorf("wait for container %s: %w", name, err), stop(context.WithoutCancel(ctx)))
	}
	return u.String(), stop, nil
}

func runArgs(name string, throwaway bool) []string {
	args := []string{
		"run", "-d", "--rm", "--name", name, "-p", "127.0.0.1::5432",
		"-e", "POSTGRES_USER=" + superuser, "-e", "POSTGRES_PASSWORD=" + superuser, "-e", "POSTGRES_DB=postgres",
		"-e", "POSTGRES_INITDB_ARGS=--encoding=UTF8 --locale=C",
	}
	if throwaway {
		return append(args, image, "-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off")
	}
	return append(args, "-v", name+"-data:/var/lib/postgresql/data", image)
}

// waitForContainer connects until it works. A bare TCP connection proves
// nothing: Docker accepts it before Postgres listens.
func waitForContainer(ctx context.Context, dsn string) error {
	ctx, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	var last error
	err := poll(ctx, func() (bool, error) {
		conn, err := pgx.Connect(ctx, dsn)
		if err != nil {
			last = err
			return judge(err)
		}
		return true, conn.Close(ctx)
	})
	if err != nil && last != nil {
		return last
	}
	return err
}

// docker runs the command and returns what it printed. What it said in anger
// is in the error.
func docker(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "docker", args...)
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("docker %s: %w: %s", args[0], err, bytes.TrimSpace(complaint.Bytes()))
	}
	return strings.TrimSpace(string(out)), nil
}
