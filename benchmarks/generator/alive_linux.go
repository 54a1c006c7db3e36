package main

import "syscall"

// alive reports whether an idle connection is still open.
//
// If data is waiting on an idle connection, the server has closed it. An unused connection is an exception:
// the server's session tickets may be waiting there.
func (c *connection) alive() bool {
	raw, err := c.plain.SyscallConn()
	if err != nil {
		return false
	}
	open := false
	err = raw.Read(func(fd uintptr) bool {
		var first [1]byte
		n, _, err := syscall.Recvfrom(int(fd), first[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		open = err == syscall.EAGAIN || (err == nil && n > 0 && !c.used)
		return true
	})
	return err == nil && open
}
