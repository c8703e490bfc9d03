/* The floor for connect checks: an epoll loop that connects, resets and starts over.
 *
 *   connect ADDRESS PORT COUNT IN_FLIGHT
 *
 * prints: connections a second, microseconds of CPU for each, how many were open.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static struct sockaddr_in target;
static int poller;

static double wall(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec / 1e9;
}

static double cpu(void) {
  struct rusage u;
  getrusage(RUSAGE_SELF, &u);
  return u.ru_utime.tv_sec + u.ru_stime.tv_sec + (u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static void begin(void) {
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0 || (connect(fd, (struct sockaddr *)&target, sizeof target) && errno != EINPROGRESS)) {
    perror("connect");
    exit(1);
  }
  struct epoll_event event = {.events = EPOLLOUT | EPOLLET, .data.fd = fd};
  epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event);
}

int main(int argc, char **argv) {
  if (argc != 5) return 2;
  long count = atol(argv[3]), started = 0, ended = 0, opened = 0;
  int in_flight = atoi(argv[4]);
  target.sin_family = AF_INET;
  target.sin_port = htons(atoi(argv[2]));
  inet_pton(AF_INET, argv[1], &target.sin_addr);
  poller = epoll_create1(0);
  struct epoll_event ready[256];
  struct linger reset = {1, 0};
  double began = wall(), worked = cpu();
  for (; started < in_flight && started < count; started++) begin();
  while (ended < count) {
    int n = epoll_wait(poller, ready, 256, -1);
    for (int i = 0; i < n; i++) {
      int fd = ready[i].data.fd, error = 0;
      socklen_t size = sizeof error;
      getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
      opened += !error;
      setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
      close(fd);
      ended++;
      if (started < count) {
        begin();
        started++;
      }
    }
  }
  printf("%.0f %.2f %ld\n", count / (wall() - began), (cpu() - worked) * 1e6 / count, opened);
  return 0;
}
