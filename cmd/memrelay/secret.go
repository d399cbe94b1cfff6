package main

import (
	"crypto/rand"
	"encoding/base64"
)

type secretCommand struct{}

// Run prints a secret as Standard Webhooks writes it: whsec_ and 32 random bytes.
func (secretCommand) Run(s streams) error {
	secret := newSecret()
	return s.say(map[string]any{"secret": secret}, secret)
}

func newSecret() string {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails: the program ends where the system has no randomness
	return "whsec_" + base64.StdEncoding.EncodeToString(key)
}

type versionCommand struct{}

// Run prints the version.
func (versionCommand) Run(s streams) error {
	return s.say(map[string]any{"version": version}, "memrelay "+version)
}
