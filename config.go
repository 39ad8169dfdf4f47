package crosscomm

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/joho/godotenv"
)

// Role is what a Service is: the Server, or a Client of one.
type Role string

// The two roles.
const (
	Client Role = "client"
	Server Role = "server"
)

// AnyPort as [Config.Port] makes a server listen on a free port, which
// [Service.Addr] tells.
const AnyPort = -1

// Defaults of [Config]; ports, times and the file are the original's.
const (
	DefaultPort              = 9898
	DefaultHeartbeatInterval = 30 * time.Second
	DefaultHeartbeatTimeout  = 60 * time.Second
	DefaultStateFile         = "cross_comm_clients.yaml"
	DefaultMaxMessageSize    = 1 << 20
	DefaultBackoffMin        = 500 * time.Millisecond
	DefaultBackoffMax        = 30 * time.Second
	DefaultMaxDownloads      = 4
)

// The limits of [Config.MaxMessageSize]: the protocol's own frames must fit,
// and there must be room for a few messages in memory.
const (
	minMessageSize = 512
	maxMessageSize = 1 << 30
)

// Config configures a [Service]. Only Role is needed; the zero value of any
// other field means its default.
type Config struct {
	Role Role

	// IP is the address that a server listens on ("0.0.0.0" if empty: all of
	// them), or the server's address or host name for a client ("127.0.0.1" if
	// empty). It has no scheme and no port.
	IP string
	// Port is the server's port, 9898 if zero.
	Port int
	// URL takes the place of IP and Port of a client, for a server that is
	// mounted at a path: "ws://host:port/path", or that speaks TLS: "wss://…".
	URL string

	// ClientID is this client's name to all others. It must be unique, have at
	// most 256 bytes and no invisible characters, and not be "all" or "server".
	// If empty, an id is made of the machine's MAC address and a random part,
	// as in the original.
	ClientID string

	// HeartbeatInterval is how often a client tells that it is alive, and how
	// often a server looks for clients that do not: 30 s if zero.
	HeartbeatInterval time.Duration
	// HeartbeatTimeout is the silence after which a server counts a client as
	// offline: 60 s if zero. It should be at least twice the clients'
	// HeartbeatInterval.
	HeartbeatTimeout time.Duration

	// RetryLogin makes Login try until it has reached the server or its context
	// ends, in place of returning the first error.
	RetryLogin bool
	// NoReconnect leaves a client disconnected when it has lost its link.
	NoReconnect bool
	// Between attempts to connect a client waits a random time between zero and
	// a bound that doubles with each attempt ("full jitter"), from BackoffMin
	// (500 ms if zero) up to BackoffMax (30 s if zero).
	BackoffMin, BackoffMax time.Duration
	// OnUp is called after each login of a client; OnDown, with the reason,
	// each time that it has lost the link or its login, except by Logout. A
	// client reconnects after OnDown unless it has given up: with NoReconnect,
	// or if the reason is [ErrReplaced] or [ErrLoginRejected]. If it gives up
	// while it is reconnecting, OnDown is called a second time. The functions
	// are called one at a time, in order; they may block and use the Service.
	// Panics are logged.
	OnUp   func()
	OnDown func(err error)
	// DialContext opens a client's network connections to the server, if not
	// nil, in place of a net.Dialer. Proxies from the environment (HTTP_PROXY)
	// are not used either way.
	DialContext func(ctx context.Context, network, addr string) (net.Conn, error)
	// TLS is for connections that are encrypted. It must not be changed any more;
	// its NextProtos count for nothing.
	//
	// For a client whose URL begins with wss, as it does by default if TLS is not
	// nil, and for the files that it exchanges with that server, it says whom the
	// client trusts (see [TrustPin] and [TrustCA]), and who it is. If it is nil the
	// system's roots are trusted; the name that the certificate must have is that of
	// the URL, unless it is set here.
	//
	// A server speaks TLS, at least 1.2, if it is not nil. It must have the server's
	// certificate: see [SelfSigned] and [LoadCertificate]. A configuration that its
	// GetConfigForClient returns is used as it is. If its ClientAuth verifies
	// the clients' certificates, a client that has one may log in only with an id
	// that is the certificate's common name or one of its DNS names; any other is
	// closed with [CloseLoginRejected].
	TLS *tls.Config
	// TLSPort is where a server speaks TLS, and then Port is without it; AnyPort
	// takes a free one. If it is zero the server speaks TLS at Port, if TLS is set,
	// and nothing else. ClientAuth does not count at a port without TLS: who may log
	// in there is up to Token, TokenFile and Authorize.
	TLSPort int
	// TLSRedirect has a server with a TLSPort serve nothing at Port, but send
	// whoever comes there to TLSPort (status 307). Python peers follow that, and
	// speak TLS so, although they have only the one address. It helps against those
	// who read along, and not against those who change what passes: they may answer
	// in the server's place.
	TLSRedirect bool

	// Token is what a client shows when it connects, and on a server what each
	// client must show, whatever its id. It has no spaces, and should be random
	// and of 20 characters at least. Our client sends it as "Authorization: Bearer
	// TOKEN"; others can have "?token=TOKEN" in the address. Who has none, or
	// another, is answered with 401; but a client with a certificate that TLS has
	// verified needs none.
	Token Token
	// TokenFile names a file with a token for each client of a server, as "id
	// token" in each line, or "* token" for any id; Token counts besides. It is
	// read when the server starts, and again when it changes: what is new counts at
	// once, and clients whose token is not there any more are disconnected when the
	// file has not been written for a second or two. A client that logs in with an id
	// that is not its token's is closed with [CloseLoginRejected]. The error of a file
	// that cannot be read, or is malformed, is that of StartServer; later it is
	// logged, and the tokens of before count on.
	TokenFile string
	// Authorize, if not nil, is asked besides: first about each handshake, before
	// the id is known, with "" in its place, and then about each login that does
	// not repeat one. The request is the handshake's, without a body; its context
	// has the handshake's values, and ends with the connection, the time for a
	// login, or the server. An error turns the client away, by 401 or by
	// [CloseLoginRejected], and its text is what the client is told. It may be
	// called concurrently, and may block; a panic turns the client away, too.
	Authorize func(r *http.Request, clientID string) error
	// AllowedOrigins are those whose web pages may connect to a server from a
	// browser, such as "https://app.example.com", besides the server's own; "*"
	// stands for all. Programs have no origin. The answer to others is 403.
	AllowedOrigins []string
	// TrustedProxies are the addresses of proxies in front of a server, of which it
	// believes whom they have a request from (X-Forwarded-For): the [Limits] for
	// an address are for that one then, and it is what the log tells.
	TrustedProxies []netip.Prefix
	// Limits are what a server grants to those who connect.
	Limits Limits

	// StateFile is where a server keeps the states of its clients, as YAML,
	// under a lock on the file of the same name with ".lock" at its end:
	// "cross_comm_clients.yaml" if empty. A relative name is one in DataDir.
	StateFile string
	// NoStateFile makes a server keep no file.
	NoStateFile bool
	// DataDir is the directory for a server's files, which is made if it is
	// missing. With it the server carries images, files and folders itself: at
	// its own port, beside the WebSocket, it is an OSS endpoint with a bucket,
	// whose objects and access keys lie in DataDir. If it is empty it is not,
	// and the state file lies in the working directory. It keeps the Queues there, too.
	DataDir string
	// Queues are what waits in DataDir for clients that are away.
	Queues Queues
	// MaxFileSize bounds the bytes of a file that the endpoint takes, and Quota
	// those of all that it keeps; there is no bound if they are zero.
	MaxFileSize, Quota int64
	// KeepFiles is how long the endpoint keeps a file: forever if zero.
	KeepFiles time.Duration
	// OnLogin is called when a client has logged in; OnLogout when it has
	// logged out (err is nil), or its link has ended otherwise. A client whose
	// id is taken over by a newer login gets a second OnLogin and no OnLogout.
	// The functions are called one at a time, in order; they may block and use
	// the Service. Panics are logged.
	OnLogin  func(clientID string)
	OnLogout func(clientID string, err error)

	// MaxMessageSize is the number of bytes that a message may have on the
	// wire: 1 MiB if zero, which is what the original peers take. A larger one
	// that arrives costs its sender the connection (code 1009).
	MaxMessageSize int
	// Compression agrees to permessage-deflate, without context takeover, if
	// the other side wants it. Messages of 128 bytes and more are compressed
	// then; one for many receivers is compressed once for all of them. That
	// takes many times the processor time of the rest, a megabyte for each
	// message that is being compressed, and 50 KB for each connection that is in
	// the middle of sending one.
	Compression bool

	// EnvFile is a file of NAME=value lines, ".env" if empty, that need not be
	// there. The OSS fields take their values from the environment, or else
	// from it; it is not added to the environment.
	EnvFile string
	// OSS tells where images, files and folders are kept. Empty fields are
	// filled from OSS_ENDPOINT, OSS_BUCKET_NAME, OSS_ACCESS_KEY_ID,
	// OSS_ACCESS_KEY_SECRET and OSS_REGION. If it is empty, a client uses the
	// endpoint of the server, which gives it an access key when it logs in; and
	// a server its own.
	OSS OSSConfig
	// ObjectStore takes the place of OSS, if not nil.
	ObjectStore ObjectStore
	// MaxDownloads is how many images, files and folders are downloaded at a
	// time: 4 if zero. The others wait; those of different senders come by
	// turns, and if it is more than 1, one sender has at most one less. When
	// 5,000 of a sender wait, the messages of further ones come
	// with an error.
	MaxDownloads int
	// MaxDownloadSize bounds the bytes of an image, a file or a folder that is
	// downloaded, whoever has sent it; there is no bound if it is zero. A larger
	// one is not begun, and its error is [ErrTooLarge].
	MaxDownloadSize int64
	// OnProgress is told how far each upload and download has come: ten times a
	// second at most, and at last, with Done, before the method that has begun
	// it returns, or the listeners of its message are called. The calls for one
	// transfer come one at a time, those for several may be concurrent; the
	// transfer waits for them. Panics are logged.
	OnProgress func(Progress)

	// Logger is told what happens; nothing is logged if it is nil. A panic of its
	// handler costs a line, and nothing else.
	Logger *slog.Logger
}

// OSSConfig is how to reach a bucket of Aliyun OSS, or of a crosscomm server.
// Its secret is kept out of logs and of fmt's output; encoding/json writes it.
type OSSConfig struct {
	// Endpoint is an address such as "http://192.168.1.10:9898". One of Aliyun
	// without a scheme is reached by https.
	Endpoint        string
	BucketName      string
	AccessKeyID     string
	AccessKeySecret string
	// Region, for instance "cn-hangzhou", makes requests be signed by V4, which
	// needs it. Without it they are by V1, as those of the other peers.
	Region string
}

// String returns the settings without the secret.
func (o OSSConfig) String() string {
	return fmt.Sprintf("{Endpoint:%s BucketName:%s AccessKeyID:%s AccessKeySecret:%s Region:%s}", o.Endpoint, o.BucketName, o.AccessKeyID, Token(o.AccessKeySecret), o.Region)
}

// GoString is String: %#v shall not print the secret either.
func (o OSSConfig) GoString() string { return o.String() }

// LogValue is String for slog.
func (o OSSConfig) LogValue() slog.Value { return slog.StringValue(o.String()) }

// withDefaults returns the configuration with every field filled, or says
// which is wrong.
func (c Config) withDefaults() (Config, error) {
	fill(&c.Port, DefaultPort)
	fill(&c.HeartbeatInterval, DefaultHeartbeatInterval)
	fill(&c.HeartbeatTimeout, DefaultHeartbeatTimeout)
	fill(&c.BackoffMin, DefaultBackoffMin)
	fill(&c.BackoffMax, max(DefaultBackoffMax, c.BackoffMin))
	fill(&c.StateFile, DefaultStateFile)
	fill(&c.MaxMessageSize, DefaultMaxMessageSize)
	fill(&c.MaxDownloads, DefaultMaxDownloads)
	fill(&c.EnvFile, ".env")
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	c.IP = strings.Trim(c.IP, "[]") // as IPv6 addresses stand in URLs
	switch c.Role {
	case Client:
		fill(&c.IP, "127.0.0.1")
		fill(&c.ClientID, newClientID())
		if c.URL == "" {
			scheme := "ws"
			if c.TLS != nil {
				scheme = "wss"
			}
			c.URL = scheme + "://" + net.JoinHostPort(c.IP, strconv.Itoa(c.Port)) + "/"
		}
	case Server:
		fill(&c.IP, "0.0.0.0")
		fill(&c.ClientID, newClientID())
		c.Limits = c.Limits.withDefaults()
		if c.DataDir != "" {
			c.Queues = c.Queues.withDefaults()
		}
		if !filepath.IsAbs(c.StateFile) {
			c.StateFile = filepath.Join(c.DataDir, c.StateFile)
		}
	}
	if err := c.check(); err != nil {
		return Config{}, fmt.Errorf("crosscomm: config: %w", err)
	}
	c.readEnvironment()
	return c, nil
}

func fill[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func (c *Config) check() error {
	if c.Role != Client && c.Role != Server {
		return fmt.Errorf("Role is %q; it must be crosscomm.Client or crosscomm.Server", string(c.Role))
	}
	if strings.Contains(c.IP, "/") {
		return fmt.Errorf("IP is %q; it must be an address or a host name alone (a client may have a URL instead)", c.IP)
	}
	if _, _, err := net.SplitHostPort(c.IP); err == nil {
		return fmt.Errorf("IP is %q; the port goes into Port", c.IP)
	}
	if c.Port > 65535 || c.Port < 0 && (c.Role == Client || c.Port != AnyPort) {
		return fmt.Errorf("port %d: it must be between 1 and 65535, or, for a server, AnyPort", c.Port)
	}
	for name, n := range map[string]int64{
		"HeartbeatInterval": int64(c.HeartbeatInterval),
		"HeartbeatTimeout":  int64(c.HeartbeatTimeout),
		"BackoffMin":        int64(c.BackoffMin),
		"BackoffMax":        int64(c.BackoffMax),
		"MaxMessageSize":    int64(c.MaxMessageSize),
		"MaxDownloads":      int64(c.MaxDownloads),
		"MaxDownloadSize":   c.MaxDownloadSize,
		"MaxFileSize":       c.MaxFileSize,
		"Quota":             c.Quota,
		"KeepFiles":         int64(c.KeepFiles),
	} {
		if n < 0 {
			return fmt.Errorf("%s is negative", name)
		}
	}
	if c.MaxMessageSize < minMessageSize || c.MaxMessageSize > maxMessageSize {
		return fmt.Errorf("MaxMessageSize is %d; it must be between %d and %d", c.MaxMessageSize, minMessageSize, maxMessageSize)
	}
	if c.BackoffMax < c.BackoffMin {
		return fmt.Errorf("BackoffMax (%v) is less than BackoffMin (%v)", c.BackoffMax, c.BackoffMin)
	}
	if err := checkID(c.ClientID); err != nil {
		return fmt.Errorf("ClientID: %w", err)
	}
	if err := checkToken(c.Token); err != nil {
		return fmt.Errorf("Token: %w", err)
	}
	if err := c.checkTLS(); err != nil {
		return err
	}
	if c.Role == Server {
		return c.checkServer()
	}
	return c.checkClient()
}

// checkServer is the part of check about what is a server's alone.
func (c *Config) checkServer() error {
	for _, origin := range c.AllowedOrigins {
		if err := checkOrigin(origin); err != nil {
			return err
		}
	}
	switch {
	case c.URL != "":
		return errors.New("a server has no URL, but IP and Port")
	case c.DataDir == "" && (c.MaxFileSize != 0 || c.Quota != 0 || c.KeepFiles != 0):
		return errors.New("MaxFileSize, Quota and KeepFiles are about the files in DataDir, which is empty")
	case c.DataDir == "" && !c.Queues.isZero():
		return errors.New("Queues are kept in DataDir, which is empty")
	}
	if err := c.Queues.check(); err != nil {
		return fmt.Errorf("Queues: %w", err)
	}
	if err := c.Limits.check(); err != nil {
		return fmt.Errorf("Limits: %w", err)
	}
	return nil
}

// checkClient is checkServer for a client.
func (c *Config) checkClient() error {
	if c.TokenFile != "" || c.Authorize != nil || c.AllowedOrigins != nil || c.TrustedProxies != nil || c.Limits != (Limits{}) {
		return errors.New("TokenFile, Authorize, AllowedOrigins, TrustedProxies and Limits are a server's")
	}
	if c.DataDir != "" || c.MaxFileSize != 0 || c.Quota != 0 || c.KeepFiles != 0 || !c.Queues.isZero() {
		return errors.New("DataDir, MaxFileSize, Quota, KeepFiles and Queues are a server's")
	}
	u, err := url.Parse(c.URL)
	switch {
	case err != nil:
		return fmt.Errorf("URL: %w", err)
	case u.Scheme != "ws" && u.Scheme != "wss", u.Host == "":
		return fmt.Errorf("URL is %q; it must look like ws://host:port/path", withoutQuery(c.URL))
	case u.Scheme == "ws" && c.TLS != nil:
		return fmt.Errorf("TLS is set, but the URL %q is without: it must begin with wss", withoutQuery(c.URL))
	}
	return nil
}

// readEnvironment fills the OSS settings. Nothing in it is fatal: who sends no
// files needs none.
func (c *Config) readEnvironment() {
	file, err := godotenv.Read(c.EnvFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		c.Logger.Warn("the environment file is not used", "file", c.EnvFile, "error", err)
	}
	for name, field := range map[string]*string{
		"OSS_ENDPOINT":          &c.OSS.Endpoint,
		"OSS_BUCKET_NAME":       &c.OSS.BucketName,
		"OSS_ACCESS_KEY_ID":     &c.OSS.AccessKeyID,
		"OSS_ACCESS_KEY_SECRET": &c.OSS.AccessKeySecret,
		"OSS_REGION":            &c.OSS.Region,
	} {
		value, ok := os.LookupEnv(name)
		if !ok {
			value = file[name]
		}
		fill(field, strings.TrimSpace(value))
	}
}
