// Package pywayne makes a Python environment with the real pywayne, which the
// interoperability tests and the comparison of servers share.
package pywayne

import (
	"context"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/crosscomm/crosscomm-go/internal/testkit/cached"
)

// Requirements are the packages of the environment with their versions, as pip
// reads them.
//
//go:embed requirements.txt
var Requirements string

// Interpreter returns the Python interpreter of the environment, which it makes if
// it is not there, once for all runs to come. That takes some 20 s and ends when
// ctx does. Where there is no Python it returns "", of which the caller has to
// warn, but in CI, where the environment variable CI is set, that is an error.
func Interpreter(ctx context.Context) (string, error) {
	if _, err := exec.LookPath("python3"); err != nil {
		if os.Getenv("CI") != "" {
			return "", fmt.Errorf("in CI the original must be there: %w", err)
		}
		return "", nil
	}
	interpreter := func(dir string) string { return filepath.Join(dir, "venv", "bin", "python") }
	dir, err := cached.Dir("", []byte(Requirements), func(dir string) error {
		list := filepath.Join(dir, "requirements.txt")
		if err := os.WriteFile(list, []byte(Requirements), 0o644); err != nil {
			return err
		}
		for _, command := range [][]string{
			{"python3", "-m", "venv", "--clear", filepath.Join(dir, "venv")},
			{interpreter(dir), "-m", "pip", "install", "--quiet", "--no-deps", "--disable-pip-version-check", "-r", list},
		} {
			if out, err := exec.CommandContext(ctx, command[0], command[1:]...).CombinedOutput(); err != nil {
				return fmt.Errorf("%q: %w\n%s", command, err, out)
			}
		}
		return nil
	})
	if err != nil {
		return "", err
	}
	return interpreter(dir), nil
}
