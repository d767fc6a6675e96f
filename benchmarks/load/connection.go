// One connection of HTTP/1.1, as cheap as it can be: the client shares its cores with the server that is measured.
package main

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

const patience = 5 * time.Minute

type connection struct {
	address       string
	authorization string
	conn          net.Conn
	reader        *bufio.Reader
	head          []byte
	buffer        []byte
	bytes         int64
	store         *connection // to where redirects lead
}

type answer struct {
	status   int
	length   int64 // announced, -1 if not
	body     int64 // bytes that came
	location string
}

func (c *connection) close() {
	if c.conn != nil {
		c.conn.Close()
		c.conn = nil
	}
	if c.store != nil {
		c.store.close()
	}
}

// Sends a request and reads its answer whole; a body is hashed into sum unless that is nil.
func (c *connection) do(method, path string, body net.Buffers, headers string, sum hash.Hash) (answer, error) {
	if c.conn == nil {
		conn, err := net.Dial("tcp", c.address)
		if err != nil {
			return answer{}, err
		}
		c.conn, c.reader = conn, bufio.NewReaderSize(conn, 64<<10)
		c.buffer = make([]byte, 256<<10)
	}
	c.conn.SetDeadline(time.Now().Add(patience))
	head := append(c.head[:0], method...)
	head = append(append(append(head, ' '), path...), " HTTP/1.1\r\nHost: "...)
	head = append(append(head, c.address...), "\r\nAccept: */*\r\n"...)
	if c.authorization != "" {
		head = append(append(append(head, "Authorization: "...), c.authorization...), "\r\n"...)
	}
	head = append(head, headers...)
	if body != nil || method == "POST" || method == "PUT" {
		length := 0
		for _, part := range body {
			length += len(part)
		}
		head = append(strconv.AppendInt(append(head, "Content-Length: "...), int64(length), 10), "\r\n"...)
	}
	c.head = append(head, "\r\n"...)
	buffers := append(net.Buffers{c.head}, body...)
	if _, err := buffers.WriteTo(c.conn); err != nil {
		return answer{}, err
	}
	return c.read(method, sum)
}

func (c *connection) read(method string, sum hash.Hash) (answer, error) {
	found := answer{length: -1}
	line, err := c.reader.ReadSlice('\n')
	if err != nil {
		return found, err
	}
	if len(line) < 12 {
		return found, errors.New("no status line")
	}
	found.status, err = strconv.Atoi(string(line[9:12]))
	if err != nil {
		return found, err
	}
	chunked, last := false, false
	for {
		line, err = c.reader.ReadSlice('\n')
		if err != nil {
			return found, err
		}
		if len(line) <= 2 {
			break
		}
		name, value, _ := strings.Cut(string(line[:len(line)-2]), ":")
		value = strings.TrimSpace(value)
		switch strings.ToLower(name) {
		case "content-length":
			found.length, err = strconv.ParseInt(value, 10, 64)
			if err != nil {
				return found, err
			}
		case "transfer-encoding":
			chunked = strings.EqualFold(value, "chunked")
		case "location":
			found.location = value
		case "connection":
			last = strings.EqualFold(value, "close")
		}
	}
	if method != "HEAD" && found.status != 204 && found.status != 304 {
		if chunked {
			err = c.readChunks(&found, sum)
		} else if found.length > 0 {
			err = c.readBody(&found, found.length, sum)
		}
	}
	c.bytes += found.body
	if last {
		c.close()
	}
	return found, err
}

func (c *connection) readBody(found *answer, left int64, sum hash.Hash) error {
	for left > 0 {
		count, err := c.reader.Read(c.buffer[:min(int64(len(c.buffer)), left)])
		if sum != nil {
			sum.Write(c.buffer[:count])
		}
		found.body += int64(count)
		left -= int64(count)
		if err != nil && left > 0 {
			return err
		}
	}
	return nil
}

func (c *connection) readChunks(found *answer, sum hash.Hash) error {
	for {
		line, err := c.reader.ReadSlice('\n')
		if err != nil {
			return err
		}
		size, err := strconv.ParseInt(strings.TrimSpace(string(line)), 16, 64)
		if err != nil {
			return err
		}
		if err := c.readBody(found, size, sum); err != nil {
			return err
		}
		if _, err := c.reader.Discard(2); err != nil {
			return err
		}
		if size == 0 {
			return nil
		}
	}
}

// Fetches what a redirect names; the connection to that server stays open for the next one.
func (c *connection) follow(location, headers string, sum hash.Hash) (answer, error) {
	_, rest, found := strings.Cut(location, "://")
	address, _, _ := strings.Cut(rest, "/")
	if !found || address == "" {
		return answer{}, errors.New("redirect to " + location)
	}
	if c.store == nil || c.store.address != address {
		if c.store != nil {
			c.store.close()
		}
		c.store = &connection{address: address}
	}
	got, err := c.store.do("GET", path(location), nil, headers, sum)
	c.bytes += got.body
	return got, err
}

// Sends a request once, follows one redirect of a GET, and checks what came.
func (c *connection) request(wanted request, number int64, compare bool) error {
	var sum hash.Hash
	if compare && wanted.Digest != "" && wanted.Method == "GET" {
		sum = sha256.New()
	}
	headers := "Accept: application/vnd.oci.image.manifest.v1+json\r\n"
	var body net.Buffers
	if wanted.Body != "" {
		text := fmt.Sprint(number)
		wanted.Path = strings.ReplaceAll(wanted.Path, "%d", text)
		body = net.Buffers{[]byte(strings.ReplaceAll(wanted.Body, "%d", text))}
		headers = "Content-Type: " + wanted.Type + "\r\n"
	}
	found, err := c.do(wanted.Method, wanted.Path, body, headers, sum)
	if err == nil && wanted.Method == "GET" && found.status == 307 {
		if sum != nil {
			sum.Reset()
		}
		found, err = c.follow(found.location, headers, sum)
	}
	if err := expect(found, err, wanted.Status, wanted.Method+" "+wanted.Path); err != nil {
		return err
	}
	length := found.body
	if wanted.Method == "HEAD" {
		length = found.length
	}
	if wanted.Length >= 0 && length != wanted.Length {
		return fmt.Errorf("%s %s: %d bytes, not %d", wanted.Method, wanted.Path, length, wanted.Length)
	}
	if sum != nil && "sha256:"+hex.EncodeToString(sum.Sum(nil)) != wanted.Digest {
		return fmt.Errorf("%s %s: another digest", wanted.Method, wanted.Path)
	}
	return nil
}

// Uploads a blob, in one PUT or in chunks.
func (c *connection) upload(base string, content layer, digest string, chunk int) error {
	if found, err := c.do("HEAD", base+"/blobs/"+digest, nil, "", nil); err != nil || found.status == 200 {
		return err
	}
	found, err := c.do("POST", base+"/blobs/uploads/", nil, "", nil)
	if err := expect(found, err, 202, "POST upload"); err != nil {
		return err
	}
	const octets = "Content-Type: application/octet-stream\r\n"
	for at := 0; chunk > 0 && at < content.size; at += chunk {
		end := min(at+chunk, content.size)
		headers := fmt.Sprintf("%sContent-Range: %d-%d\r\n", octets, at, end-1)
		found, err = c.do("PATCH", path(found.location), content.part(at, end), headers, nil)
		if err := expect(found, err, 202, "PATCH upload"); err != nil {
			return err
		}
	}
	rest := content.part(0, content.size)
	if chunk > 0 {
		rest = nil
	}
	target := path(found.location)
	separator := "?"
	if strings.Contains(target, "?") {
		separator = "&"
	}
	found, err = c.do("PUT", target+separator+"digest="+digest, rest, octets, nil)
	return expect(found, err, 201, "PUT upload")
}

// Returns a Location without its scheme and host.
func path(location string) string {
	if _, rest, found := strings.Cut(location, "://"); found {
		return rest[strings.Index(rest, "/"):]
	}
	return location
}

func expect(found answer, err error, status int, what string) error {
	if err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return fmt.Errorf("%s: %w", what, err)
	}
	if found.status != status {
		return fmt.Errorf("%s: status %d, not %d", what, found.status, status)
	}
	return nil
}
