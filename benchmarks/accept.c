/* The floor for listeners, and the other end of the connect benchmark: accepts and closes.
 *
 *   accept ADDRESS PORT
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

int main(int argc, char **argv) {
  if (argc != 3) return 2;
  struct sockaddr_in here = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[2]))};
  inet_pton(AF_INET, argv[1], &here.sin_addr);
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), yes = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  if (bind(fd, (struct sockaddr *)&here, sizeof here) || listen(fd, 4096)) {
    perror("listen");
    return 1;
  }
  int poller = epoll_create1(0);
  struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
  epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event);
  puts("ready");
  fflush(stdout);
  for (;;) {
    epoll_wait(poller, &event, 1, -1);
    for (int peer; (peer = accept4(fd, 0, 0, SOCK_NONBLOCK)) >= 0;) close(peer);
  }
}
