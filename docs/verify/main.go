package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"
)

// What follows is the command only; a receiver does not need it.
func main() {
	now := flag.Int64("now", time.Now().Unix(), "the `time` to believe it is, in Unix seconds")
	bodyOnly := flag.Bool("body-only", false, "check X-Webhook-Signature")
	flag.Usage = func() {
		fmt.Fprintln(os.Stderr, "usage: WEBHOOK_SECRET=... verify [options] HEADERS [BODY]")
		flag.PrintDefaults()
	}
	flag.Parse()

	var secrets []string
	for _, name := range []string{"WEBHOOK_SECRET", "WEBHOOK_OLD_SECRET"} {
		if secret := os.Getenv(name); secret != "" {
			secrets = append(secrets, secret)
		}
	}
	if len(secrets) == 0 || flag.NArg() < 1 {
		flag.Usage()
		os.Exit(2)
	}

	header, body, err := read(flag.Arg(0), flag.Arg(1))
	if err == nil && *bodyOnly {
		err = VerifyBody(header, body, secrets)
	} else if err == nil {
		err = Verify(header, body, secrets, time.Unix(*now, 0))
	}
	if errors.Is(err, ErrSecret) {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "invalid:", err)
		os.Exit(1)
	}
	fmt.Println("valid")
}

// read returns the headers of one file and the body of another, or of standard input.
func read(headerFile, bodyFile string) (http.Header, []byte, error) {
	text, err := os.ReadFile(headerFile)
	if err != nil {
		return nil, nil, err
	}
	header := http.Header{}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(line, ":")
		header.Set(strings.TrimSpace(name), strings.TrimSpace(value))
	}
	if bodyFile == "" {
		body, err := io.ReadAll(os.Stdin)
		return header, body, err
	}
	body, err := os.ReadFile(bodyFile)
	return header, body, err
}
