//go:build !race

package client

// underRace leaves error codes out that nothing in the client treats apart.
const underRace = false
