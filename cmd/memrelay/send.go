package main

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/memrelay/memrelay/internal/config"
)

type sendCommand struct {
	File string        `arg:"" optional:"" help:"The body; - for standard input. Without it a sample contact." type:"existingfile"`
	URL  string        `help:"Where to." default:"http://localhost:8000/webhooks/zoho" name:"url"`
	ID   string        `help:"X-Zoho-Event-Id." name:"id"`
	Wait time.Duration `help:"How long to wait for the answer." default:"10s"`
}

const sampleBody = `{"operation":"create","module":"Contacts","data":[{"id":"5725767000000524157","First_Name":"Sample","Last_Name":"Contact",` +
	`"Email":"sample@example.com","Account_Name":{"id":"5725767000000499001","name":"Example Ltd"}}]}` + "\n"

// Run signs the body with the first of WEBHOOK_SECRET and sends it.
func (c sendCommand) Run(ctx context.Context, s streams) error {
	cfg, _, _ := config.FromEnv(s.environ) // sending needs no database
	if len(cfg.Inbound.Secrets) == 0 {
		return usage(fmt.Errorf("WEBHOOK_SECRET is not set: nothing to sign with"))
	}
	body, err := c.body()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, c.Wait)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.URL, bytes.NewReader(body))
	if err != nil {
		return usage(err)
	}
	mac := hmac.New(sha256.New, []byte(cfg.Inbound.Secrets[0]))
	mac.Write(body)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Zoho-Signature", hex.EncodeToString(mac.Sum(nil)))
	if c.ID != "" {
		req.Header.Set("X-Zoho-Event-Id", c.ID)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("send: %w", err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(s.out, io.LimitReader(resp.Body, 1<<20)); err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("answered %s", resp.Status)
	}
	return nil
}

func (c sendCommand) body() ([]byte, error) {
	switch c.File {
	case "":
		return []byte(sampleBody), nil
	case "-":
		return io.ReadAll(os.Stdin)
	default:
		return os.ReadFile(c.File)
	}
}
