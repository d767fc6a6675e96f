// Speaks to a registry by the QUIC of others: a gateway from HTTP/1.1 to HTTP/3 for clients that know only the former,
// a client that measures, and a server to compare with. Test code of drift-quic-aioquic.
package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

var (
	ca       = flag.String("ca", "", "file of authorities that are trusted")
	target   = flag.String("target", "", "host:port that speaks HTTP/3")
	listen   = flag.String("listen", "", "gateway: address for HTTP/1.1")
	path     = flag.String("path", "/", "client: paths, with spaces between them; each is a request of its own")
	method   = flag.String("method", "GET", "client: method")
	size     = flag.Int64("size", 0, "client: bytes of the body")
	repeat   = flag.Int("repeat", 1, "client: requests one after the other on one connection")
	parallel = flag.Int("parallel", 1, "client: requests at once, each on a stream of one connection")
	rate     = flag.Int64("rate", 0, "client: bytes per second that each stream reads; 0 is no limit")
	limit    = flag.Int64("limit", -1, "client: bytes of an answer that are read")
	early    = flag.Bool("early", false, "client: connects twice, the second time with the request in the first flight")
	over     = flag.String("over", "h3", "client: h3, or h1 or h2 over TLS")
	atOnce   = flag.Int("at-once", 1<<20, "client: requests under way at any time")
	move     = flag.Duration("move", 0, "client: after so long the connection goes on from another address; 0 is never")
	serve    = flag.String("serve", "", "server: address for HTTP/3; needs -cert and -key")
	cert     = flag.String("cert", "", "server: file of its certificate")
	key      = flag.String("key", "", "server: file of its key")
	folder   = flag.String("folder", "", "server: folder of files to serve; what is sent is read and dropped")
	proto    = flag.String("headers", "", "client: a header as name:value")
)

// How long a server may be silent, on a machine that is busy with other tests.
const patience = 20 * time.Second

func fail(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func tlsConfig() *tls.Config {
	pem, err := os.ReadFile(*ca)
	fail(err)
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	return &tls.Config{RootCAs: pool, ClientSessionCache: tls.NewLRUClientSessionCache(8)}
}

func gateway() {
	transport := &http3.Transport{
		TLSClientConfig: tlsConfig(),
		QUICConfig:      &quic.Config{HandshakeIdleTimeout: patience, MaxIdleTimeout: patience, KeepAlivePeriod: patience / 2},
	}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(request *httputil.ProxyRequest) {
			request.Out.URL.Scheme = "https"
			request.Out.URL.Host = *target
			request.Out.Host = request.In.Host
			// The server of this program asks for the body by itself.
			request.Out.Header.Del("Expect")
		},
		Transport:     transport,
		FlushInterval: -1,
	}
	proxy.ErrorHandler = func(_ http.ResponseWriter, _ *http.Request, err error) {
		log.Print(err)
		panic(http.ErrAbortHandler)
	}
	handler := func(answer http.ResponseWriter, request *http.Request) {
		// Else an answer that does not want the body waits for it.
		http.NewResponseController(answer).EnableFullDuplex()
		// What nobody has read is read now: when the answer is over is too late, the server then looks for a request.
		defer request.Body.Close()
		proxy.ServeHTTP(answer, request)
	}
	listener, err := net.Listen("tcp", *listen)
	fail(err)
	server := &http.Server{Handler: http.HandlerFunc(handler), MaxHeaderBytes: 1 << 20}
	stopped := make(chan struct{})
	go func() {
		asked := make(chan os.Signal, 1)
		signal.Notify(asked, syscall.SIGTERM)
		<-asked
		// As a server that drains: nobody new, and those that are served to their end.
		server.Shutdown(context.Background())
		close(stopped)
	}()
	fmt.Println("listening on", listener.Addr())
	if err := server.Serve(listener); err != http.ErrServerClosed {
		fail(err)
	}
	<-stopped
}

// A server of quic-go's own, to which others are compared.
func serving() {
	files := http.FileServer(http.Dir(*folder))
	handler := func(answer http.ResponseWriter, request *http.Request) {
		if request.Method == "GET" || request.Method == "HEAD" {
			files.ServeHTTP(answer, request)
			return
		}
		io.Copy(io.Discard, request.Body)
		answer.WriteHeader(http.StatusCreated)
	}
	pair, err := tls.LoadX509KeyPair(*cert, *key)
	fail(err)
	connection, err := net.ListenPacket("udp", *serve)
	fail(err)
	fmt.Println("listening on", connection.LocalAddr())
	config := http3.ConfigureTLSConfig(&tls.Config{Certificates: []tls.Certificate{pair}})
	fail((&http3.Server{Handler: http.HandlerFunc(handler), TLSConfig: config}).Serve(connection))
}

type result struct {
	Status  int               `json:"status"`
	Bytes   int64             `json:"bytes"`
	Sha256  string            `json:"sha256"`
	Seconds float64           `json:"seconds"`
	Early   bool              `json:"early"`
	Headers map[string]string `json:"headers"`
	Error   string            `json:"error,omitempty"`
}

type zeros struct{ left int64 }

func (z *zeros) Read(into []byte) (int, error) {
	if z.left == 0 {
		return 0, io.EOF
	}
	n := min(int64(len(into)), z.left)
	clear(into[:n])
	z.left -= n
	return int(n), nil
}

type slowly struct {
	from  io.Reader
	began time.Time
	read  int64
}

func (s *slowly) Read(into []byte) (int, error) {
	if *rate > 0 {
		due := s.began.Add(time.Duration(float64(s.read) / float64(*rate) * float64(time.Second)))
		time.Sleep(time.Until(due))
		into = into[:min(len(into), 16384)]
	}
	n, err := s.from.Read(into)
	s.read += int64(n)
	return n, err
}

func ask(transport http.RoundTripper, method, path string) result {
	began := time.Now()
	var body io.Reader = http.NoBody
	if *size > 0 {
		body = &zeros{*size}
	}
	request, err := http.NewRequest(method, "https://"+*target+path, body)
	fail(err)
	request.ContentLength = *size
	if *proto != "" {
		name, value, _ := bytes.Cut([]byte(*proto), []byte(":"))
		request.Header.Set(string(name), string(value))
	}
	answer, err := transport.RoundTrip(request)
	if err != nil {
		return result{Error: err.Error(), Seconds: time.Since(began).Seconds()}
	}
	defer answer.Body.Close()
	state := sha256.New()
	var from io.Reader = &slowly{from: answer.Body, began: began}
	if *limit >= 0 {
		from = io.LimitReader(from, *limit)
	}
	n, err := io.Copy(state, from)
	found := result{Status: answer.StatusCode, Bytes: n, Seconds: time.Since(began).Seconds()}
	found.Sha256 = hex.EncodeToString(state.Sum(nil))
	found.Headers = map[string]string{}
	for name, values := range answer.Header {
		found.Headers[name] = values[0]
	}
	if err != nil {
		found.Error = err.Error()
	}
	return found
}

func show(found result) { fail(json.NewEncoder(os.Stdout).Encode(found)) }

// Connects, and after some time goes on from another socket, as a client whose network has changed.
func moving(ctx context.Context, address string, config *tls.Config, quicConfig *quic.Config) (*quic.Conn, error) {
	remote, err := net.ResolveUDPAddr("udp", address)
	fail(err)
	first, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4zero})
	fail(err)
	made, err := (&quic.Transport{Conn: first}).DialEarly(ctx, remote, config, quicConfig)
	if err != nil || *move == 0 {
		return made, err
	}
	go func() {
		time.Sleep(*move)
		second, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4zero})
		fail(err)
		path, err := made.AddPath(&quic.Transport{Conn: second})
		fail(err)
		fail(path.Probe(made.Context()))
		fail(path.Switch())
		fmt.Fprintln(os.Stderr, "moved")
	}()
	return made, nil
}

func client() {
	plain := &http.Transport{TLSClientConfig: tlsConfig(), ForceAttemptHTTP2: *over == "h2"}
	var transport http.RoundTripper = plain
	if *over == "h3" {
		quicConfig := &quic.Config{HandshakeIdleTimeout: patience, MaxIdleTimeout: patience}
		quicTransport := &http3.Transport{TLSClientConfig: tlsConfig(), QUICConfig: quicConfig, Dial: moving}
		defer quicTransport.Close()
		transport = quicTransport
	}
	paths := strings.Fields(*path)
	for range *repeat {
		var group sync.WaitGroup
		found := make([]result, *parallel*len(paths))
		turns := make(chan struct{}, *atOnce)
		for place := range found {
			group.Add(1)
			go func() {
				defer group.Done()
				turns <- struct{}{}
				found[place] = ask(transport, *method, paths[place%len(paths)])
				<-turns
			}()
		}
		group.Wait()
		for _, one := range found {
			show(one)
		}
	}
}

// The first connection gets a ticket, the second one sends its request before the handshake.
func resume() {
	config := tlsConfig()
	first := &http3.Transport{TLSClientConfig: config, QUICConfig: &quic.Config{}}
	one := *size
	*size = 0
	show(ask(first, "GET", *path))
	time.Sleep(300 * time.Millisecond)
	first.Close()
	*size = one
	var connection *quic.Conn
	second := &http3.Transport{
		TLSClientConfig: config,
		QUICConfig:      &quic.Config{},
		Dial: func(ctx context.Context, address string, tls *tls.Config, quicConfig *quic.Config) (*quic.Conn, error) {
			made, err := quic.DialAddrEarly(ctx, address, tls, quicConfig)
			connection = made
			return made, err
		},
	}
	defer second.Close()
	method := map[string]string{"GET": http3.MethodGet0RTT, "HEAD": http3.MethodHead0RTT}[*method]
	found := ask(second, method, *path)
	if connection != nil {
		<-connection.HandshakeComplete()
		found.Early = connection.ConnectionState().Used0RTT
	}
	show(found)
}

func main() {
	flag.Parse()
	switch {
	case *listen != "":
		gateway()
	case *serve != "":
		serving()
	case *early:
		resume()
	default:
		client()
	}
}
