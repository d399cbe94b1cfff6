package main

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
)

type secretCommand struct{}

// Run prints a secret as Standard Webhooks writes it: whsec_ and 32 random bytes.
func (secretCommand) Run(s streams) error {
	fmt.Fprintln(s.out, newSecret())
	return nil
}

func newSecret() string {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails: the program ends where the system has no randomness
	return "whsec_" + base64.StdEncoding.EncodeToString(key)
}

type versionCommand struct{}

// Run prints the version.
func (versionCommand) Run(s streams) error {
	fmt.Fprintln(s.out, "memrelay", version)
	return nil
}
