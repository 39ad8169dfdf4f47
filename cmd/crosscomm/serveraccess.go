package main

import (
	"net/netip"

	"github.com/crosscomm/crosscomm-go"
)

// accessFlags say who may speak.
type accessFlags struct {
	Token        crosscomm.Token `help:"What every client must show, whatever its id; random, 20 characters or more. In CROSSCOMM_TOKEN in the environment other users of this machine do not see it." env:"CROSSCOMM_TOKEN" group:"Who may connect:" placeholder:"TOKEN"`
	Tokens       string          `help:"File with a line for each client: its id (* for any) and its token. It is read again when it changes." type:"path" group:"Who may connect:" placeholder:"FILE"`
	Origin       []string        `help:"A web page that may connect from a browser, such as https://app.example.com; * for all. May be repeated." group:"Who may connect:" placeholder:"ORIGIN"`
	TrustedProxy []string        `help:"Address or network of a proxy in front of this server, which tells the clients' addresses by X-Forwarded-For. May be repeated." group:"Who may connect:" placeholder:"ADDRESS"`
}

// apply puts them into the configuration.
func (f accessFlags) apply(cfg *crosscomm.Config) error {
	cfg.Token, cfg.TokenFile, cfg.AllowedOrigins = f.Token, f.Tokens, f.Origin
	for _, text := range f.TrustedProxy {
		network, err := netip.ParsePrefix(text)
		if addr, addrErr := netip.ParseAddr(text); addrErr == nil {
			network, err = addr.Prefix(addr.BitLen())
		}
		if err != nil {
			return usageError{"--trusted-proxy is " + text + "; it must be an address such as 127.0.0.1, or a network such as 10.0.0.0/8"}
		}
		cfg.TrustedProxies = append(cfg.TrustedProxies, network)
	}
	return nil
}
