// Command openapi writes openapi.json from what the code says of the API, or with
// -check says whether it is in step. It runs in the module's folder, whose source it reads.
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"

	"github.com/memrelay/memrelay/internal/app"
	"github.com/memrelay/memrelay/internal/contract"
)

const (
	file   = "openapi.json"
	module = "github.com/memrelay/memrelay"
)

func main() {
	check := flag.Bool("check", false, "write nothing, and fail when openapi.json is out of step")
	flag.Parse()
	if err := run(*check); err != nil {
		fmt.Fprintln(os.Stderr, "openapi:", err)
		os.Exit(1)
	}
}

func run(check bool) error {
	api, err := app.Contract()
	if err != nil {
		return fmt.Errorf("collect what the packages say: %w", err)
	}
	doc, err := contract.Build(api, ".", module)
	if err != nil {
		return err
	}
	want, err := contract.Encode(doc)
	if err != nil {
		return err
	}
	if !check {
		return os.WriteFile(file, want, 0o644) //nolint:gosec // it is for everybody
	}
	got, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("read what is checked in: %w", err)
	}
	if !bytes.Equal(want, got) {
		return errors.New(file + " is out of step with the code: run make generate")
	}
	return nil
}
