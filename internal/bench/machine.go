package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// machine is where figures come from: without it they say nothing.
type machine struct {
	Taken    string            `json:"taken"` // the day
	CPU      string            `json:"cpu"`
	Cores    int               `json:"cores"`
	MemoryGB float64           `json:"memory_gib"`
	Kernel   string            `json:"kernel"`
	Disk     string            `json:"disk"` // of the server's data
	Postgres string            `json:"postgres"`
	Settings map[string]string `json:"postgres_settings"`
	Go       string            `json:"go"`
	Program  string            `json:"program"` // the commit
}

// settingsNamed are those of the server that decide about speed and safety.
func settingsNamed() []string {
	return []string{"fsync", "synchronous_commit", "wal_sync_method", "full_page_writes", "shared_buffers", "max_wal_size", "min_wal_size", "wal_level"}
}

func (b *bench) machine(ctx context.Context) (machine, error) {
	m := machine{
		Taken: time.Now().UTC().Format(time.DateOnly), Cores: runtime.NumCPU(), Go: runtime.Version(), Settings: map[string]string{},
		CPU: field("/proc/cpuinfo", "model name"), Kernel: asked(ctx, "uname", "-sr"), Program: asked(ctx, "git", "describe", "--always", "--dirty"),
		Disk: asked(ctx, "findmnt", "-n", "-o", "SOURCE,FSTYPE,OPTIONS", "-T", b.tmp),
	}
	var kib float64
	if _, err := fmt.Sscanf(field("/proc/meminfo", "MemTotal"), "%f", &kib); err == nil {
		m.MemoryGB = float64(int(kib/(1<<20)*10)) / 10
	}
	conn, err := pgx.Connect(ctx, b.server.URL("postgres"))
	if err != nil {
		return machine{}, fmt.Errorf("connect: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	rows, err := conn.Query(ctx, `SELECT name, current_setting(name) FROM unnest($1::text[]) AS s (name)`, append(settingsNamed(), "server_version"))
	if err != nil {
		return machine{}, fmt.Errorf("read settings: %w", err)
	}
	var name, value string
	_, err = pgx.ForEachRow(rows, []any{&name, &value}, func() error { m.Settings[name] = value; return nil })
	if err != nil {
		return machine{}, fmt.Errorf("read settings: %w", err)
	}
	m.Postgres = m.Settings["server_version"]
	delete(m.Settings, "server_version")
	return m, nil
}

// String says it in a sentence.
func (m machine) String() string {
	settings := make([]string, 0, len(m.Settings))
	for _, name := range settingsNamed() {
		settings = append(settings, name+"="+m.Settings[name])
	}
	return fmt.Sprintf("%d cores of %s, %.0f GiB, %s, disk %s; PostgreSQL %s (%s); %s; memrelay %s; measured on %s, load and receivers on the same cores.",
		m.Cores, m.CPU, m.MemoryGB, m.Kernel, m.Disk, m.Postgres, strings.Join(settings, ", "), m.Go, m.Program, m.Taken)
}

// field reads a line like "name: value" of a file; "unknown" where there is none.
func field(file, name string) string {
	text, err := os.ReadFile(file)
	if err != nil {
		return "unknown"
	}
	for line := range strings.Lines(string(text)) {
		if n, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(n) == name {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}

// asked is what a program says in one line; "unknown" where there is no such program.
func asked(ctx context.Context, program string, args ...string) string {
	text, err := exec.CommandContext(ctx, program, args...).Output()
	if err != nil {
		return "unknown"
	}
	return strings.Join(strings.Fields(string(text)), " ")
}
