package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/crosscomm/crosscomm-go"
)

// printOSSEnv prints the settings that Python and Java peers need for the files
// that a server on this data directory carries. It need not run.
func (c serverCommand) printOSSEnv(ctx context.Context, svc *crosscomm.Service, con console) error {
	if svc.Config().DataDir == "" {
		return errors.New("--print-oss-env: there is nothing to print: with an empty --data-dir a server carries no files")
	}
	if c.Port == 0 && !hasPort(c.Advertise) {
		return usageError{"--print-oss-env needs the port that the server has: give --port, or --advertise with a port"}
	}
	addr, err := c.peersAddress(ctx, con)
	if err != nil {
		return err
	}
	_, err = os.Stat(svc.Config().DataDir)
	isNew := errors.Is(err, fs.ErrNotExist)
	access, err := svc.FileAccess(c.endpoint(addr))
	if err != nil {
		return err
	}
	if isNew {
		fmt.Fprintf(con.stderr, "no server has run with the data directory %s yet: it was made just now, with a new key\n", printable(svc.Config().DataDir))
	}
	fmt.Fprintf(con.stderr, "put these lines into the .env of the Python or Java peers; whoever has them can read and change all files\n")
	c.hintOSSOverTLS(con.stderr)
	out := &printer{w: con.stdout}
	for _, line := range [][2]string{
		{"OSS_ENDPOINT", access.Endpoint}, {"OSS_BUCKET_NAME", access.BucketName},
		{"OSS_ACCESS_KEY_ID", access.AccessKeyID}, {"OSS_ACCESS_KEY_SECRET", access.AccessKeySecret},
	} {
		out.line("%s=%s", line[0], line[1])
	}
	return out.err
}

// peersAddress returns the HOST:PORT at which Python and Java peers reach the
// files.
func (c serverCommand) peersAddress(ctx context.Context, con console) (string, error) {
	addr, err := c.address(strconv.Itoa(c.Port))
	if err != nil {
		return "", err
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "", err
	}
	switch ip := net.ParseIP(host); {
	case ip == nil && c.Advertise != "":
		fmt.Fprintf(con.stderr, "%s is a host name: the OSS clients of Python and Java add the bucket to it, so that crosscomm.%s must be this machine, too; an IPv4 address has no such need\n", printable(host), printable(host))
	case ip == nil:
		found, err := net.DefaultResolver.LookupIP(ctx, "ip4", host)
		if err != nil {
			return "", fmt.Errorf("--ip: %w", err)
		}
		host = found[0].String()
	case ip.To4() == nil && c.Advertise != "":
		return "", fmt.Errorf("--advertise is %s, but the OSS clients of Python and Java refuse IPv6 addresses: give an IPv4 address or a host name", host)
	case ip.To4() == nil:
		return "", fmt.Errorf("the server is at %s, but the OSS clients of Python and Java refuse IPv6 addresses: give --advertise with an IPv4 address or a host name of this machine", host)
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsLoopback() {
		fmt.Fprintf(con.stderr, "%s is reached from this machine alone: give --advertise with an address under which other devices reach it\n", host)
	}
	return net.JoinHostPort(host, port), nil
}

// address returns the HOST:PORT that other devices are told of a server that
// listens on the port.
func (c serverCommand) address(port string) (string, error) {
	if c.Advertise == "" {
		return reachable(c.IP, port), nil
	}
	host := c.Advertise
	if hasPort(c.Advertise) {
		var err error
		if host, port, err = net.SplitHostPort(c.Advertise); err != nil {
			return "", usageError{fmt.Sprintf("--advertise: %v", err)}
		}
	}
	host = strings.Trim(host, "[]")
	n, err := strconv.Atoi(port)
	// What is not in any address would be written into the file of others.
	if host == "" || strings.ContainsAny(host, "/\\@?#'\"$ \t\r\n") || err != nil || n < 1 || n > 65535 {
		return "", usageError{fmt.Sprintf("--advertise is %q; it must be HOST or HOST:PORT", c.Advertise)}
	}
	return net.JoinHostPort(host, port), nil
}

// hasPort tells HOST:PORT from HOST, which may be an IPv6 address.
func hasPort(addr string) bool {
	_, _, err := net.SplitHostPort(addr)
	return err == nil
}

// envCommand is the command that prints the settings for the files of this
// server, which lie in dir, an absolute path: it may be given in another
// directory. The second port is that with TLS, if there is one of its own.
func (c serverCommand) envCommand(port, tlsPort, dir string) string {
	command := "crosscomm server"
	for _, flag := range []struct {
		name, value string
		needed      bool
	}{
		{"--ip", c.IP, !net.ParseIP(c.IP).IsUnspecified() && c.Advertise == ""},
		{"--port", port, port != strconv.Itoa(crosscomm.DefaultPort) && !hasPort(c.Advertise)},
		{"--advertise", c.Advertise, c.Advertise != ""},
		{"--data-dir", dir, true},
		{"--tls-cert", absolute(c.TLSCert), c.alone() && c.TLSCert != ""},
		{"--tls-key", absolute(c.TLSKey), c.alone() && c.TLSKey != ""},
		{"--tls-port", tlsPort, c.alone() && c.TLSPort != nil},
		{"--tls-client-ca", absolute(c.TLSClientCA), c.alone() && c.TLSClientCA != ""},
	} {
		if flag.needed {
			command += " " + flag.name + " " + shellWord(flag.value)
		}
	}
	if c.alone() && c.TLSSelfSigned {
		command += " --tls-self-signed"
	}
	if c.TLSRedirect {
		command += " --tls-redirect"
	}
	return command + " --print-oss-env > .env"
}

// absolute makes a name hold in any directory, if the system tells this one's.
func absolute(name string) string {
	if abs, err := filepath.Abs(name); err == nil {
		return abs
	}
	return name
}

func shellWord(s string) string {
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:\\"
	if s != "" && strings.Trim(s, plain) == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// reachable returns an address under which other devices may reach a server
// that listens on all addresses.
func reachable(ip, port string) string {
	if !net.ParseIP(ip).IsUnspecified() {
		return net.JoinHostPort(ip, port)
	}
	interfaces, _ := net.Interfaces()
	var found []candidate
	for _, i := range interfaces {
		addrs, _ := i.Addrs()
		for _, a := range addrs {
			if ip, ok := a.(*net.IPNet); ok && ip.IP.To4() != nil && ip.IP.IsGlobalUnicast() && i.Flags&net.FlagUp != 0 {
				found = append(found, candidate{i.Name, ip.IP})
			}
		}
	}
	return net.JoinHostPort(best(found), port)
}

// candidate is an address of this machine that others may reach.
type candidate struct {
	network string
	ip      net.IP
}

// best prefers the networks that other devices are in to those of containers,
// virtual machines and tunnels, and private addresses to public ones.
func best(all []candidate) string {
	if len(all) == 0 {
		return "127.0.0.1"
	}
	rank := func(c candidate) int {
		for _, prefix := range []string{"docker", "br-", "veth", "virbr", "vethernet", "vmnet", "vboxnet", "cni", "flannel", "lxc", "lxdbr", "podman", "tun", "tap", "utun", "wg", "tailscale", "zt"} {
			if strings.HasPrefix(strings.ToLower(c.network), prefix) {
				return 2
			}
		}
		if c.ip.IsPrivate() {
			return 0
		}
		return 1
	}
	return slices.MinFunc(all, func(a, b candidate) int { return cmp.Compare(rank(a), rank(b)) }).ip.String()
}
