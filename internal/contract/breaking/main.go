// Command breaking compares openapi.json with the one before it, and fails on what
// breaks clients. In go two documents and the changelog, out come the changes that
// nobody has announced.
//
// The one before is that of the newest tag, else that of the commit before the one
// that changed the file last. A break is meant when the version in openapi.json has a
// greater first number, or when CHANGELOG.md has a line under [Unreleased] with the
// word Breaking and the operation in backquotes: `GET /v1/memories`.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

const file = "openapi.json"

func main() {
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "breaking:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	now, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("read %s: %w", file, err)
	}
	commit, before := previous(ctx, now)
	if before == nil {
		fmt.Println("there is no other " + file + " to compare with")
		return nil
	}
	changes, err := compare(ctx, before)
	if err != nil {
		return err
	}
	changelog, err := os.ReadFile("CHANGELOG.md")
	if err != nil {
		return fmt.Errorf("read the changelog: %w", err)
	}
	left, err := unannounced(changes, string(changelog), before, now)
	if err != nil {
		return err
	}
	for _, c := range left {
		fmt.Printf("%s: %s\n", c.name(), c.Text)
	}
	if len(left) > 0 {
		return fmt.Errorf("%d changes since %s break clients: take them back, say Breaking with the operation in CHANGELOG.md, or raise the version", len(left), commit)
	}
	fmt.Printf("nothing breaks clients since %s\n", commit)
	return nil
}

// previous is the document to compare with, and where it is from; nil for none, as in a
// clone without history.
func previous(ctx context.Context, now []byte) (commit string, document []byte) {
	if tag, err := git(ctx, "describe", "--tags", "--abbrev=0"); err == nil {
		if document, err := git(ctx, "show", strings.TrimSpace(string(tag))+":"+file); err == nil {
			return strings.TrimSpace(string(tag)), document
		}
	}
	commits, err := git(ctx, "log", "-2", "--format=%h", "--", file)
	if err != nil {
		return "", nil
	}
	for _, commit := range strings.Fields(string(commits)) {
		if document, err := git(ctx, "show", commit+":"+file); err == nil && string(document) != string(now) {
			return commit, document
		}
	}
	return "", nil
}

func git(ctx context.Context, args ...string) ([]byte, error) {
	return exec.CommandContext(ctx, "git", args...).Output() //nolint:gosec // our own words
}

// change is one as oasdiff tells of it.
type change struct {
	ID        string `json:"id"`
	Text      string `json:"text"`
	Level     int    `json:"level"` // 3: it breaks clients, 2: it may
	Operation string `json:"operation"`
	Path      string `json:"path"`
}

// name is the operation, as the changelog has it.
func (c change) name() string {
	if c.Path == "" {
		return "webhooks"
	}
	return c.Operation + " " + c.Path
}

// breaks reports whether clients break. Where others would pass over a field that they
// do not know any more this API refuses it, and an answer has what it was said to have.
func (c change) breaks() bool {
	switch c.ID {
	case "request-property-removed", "request-parameter-removed", "response-optional-property-removed":
		return true
	}
	return c.Level >= 3
}

func compare(ctx context.Context, before []byte) ([]change, error) {
	dir, err := os.MkdirTemp("", "memrelay-openapi-")
	if err != nil {
		return nil, fmt.Errorf("make a folder: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }() // it is a folder for what passes
	base := filepath.Join(dir, "before.json")
	if err := os.WriteFile(base, before, 0o600); err != nil {
		return nil, fmt.Errorf("write the document before: %w", err)
	}
	cmd := exec.CommandContext(ctx, "go", "tool", "oasdiff", "breaking", base, file, "--format", "json") //nolint:gosec // our own words
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("compare with oasdiff: %w", err)
	}
	return readChanges(out)
}

func readChanges(out []byte) ([]change, error) {
	if len(strings.TrimSpace(string(out))) == 0 {
		return nil, nil
	}
	var changes []change
	if err := json.Unmarshal(out, &changes); err != nil {
		return nil, fmt.Errorf("read what oasdiff says: %w", err)
	}
	return changes, nil
}

// unannounced are the changes that break clients and are not meant.
func unannounced(changes []change, changelog string, before, now []byte) ([]change, error) {
	was, err := major(before)
	if err != nil {
		return nil, err
	}
	is, err := major(now)
	if err != nil || is > was {
		return nil, err
	}
	var left []change
	for _, c := range changes {
		if c.breaks() && !announced(changelog, c.name()) {
			left = append(left, c)
		}
	}
	return left, nil
}

// announced reports whether the part of the changelog that is not released names an
// operation as broken.
func announced(changelog, name string) bool {
	_, part, _ := strings.Cut(changelog, "## [Unreleased]")
	part, _, _ = strings.Cut(part, "\n## ")
	for line := range strings.Lines(part) {
		if strings.Contains(line, "Breaking") && strings.Contains(line, "`"+name+"`") {
			return true
		}
	}
	return false
}

func major(document []byte) (int, error) {
	var doc struct {
		Info struct {
			Version string `json:"version"`
		} `json:"info"`
	}
	if err := json.Unmarshal(document, &doc); err != nil {
		return 0, fmt.Errorf("read a document: %w", err)
	}
	first, _, _ := strings.Cut(doc.Info.Version, ".")
	n, err := strconv.Atoi(first)
	if err != nil {
		return 0, errors.New("the version of a document is not 1.2.3 but " + doc.Info.Version)
	}
	return n, nil
}
