/* A burst of strangers: all connect at once, say nothing, and stay until standard input ends.
 *
 *   strangers ADDRESS PORT COUNT
 *
 * prints: the slowest connect in milliseconds, how many were connected, how many were told something.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { DIALLED, CONNECTED, TOLD, LOST };

static double wall(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec / 1e9;
}

int main(int argc, char **argv) {
  if (argc != 4) return 2;
  int count = atoi(argv[3]), connected = 0, told = 0;
  struct sockaddr_in target = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[2]))};
  inet_pton(AF_INET, argv[1], &target.sin_addr);
  struct rlimit limit;
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
  int room = count + 64;
  double *began = calloc(room, sizeof *began), slowest = 0;
  char *state = calloc(room, 1);
  int poller = epoll_create1(0);
  for (int i = 0; i < count; i++) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (fd < 0 || fd >= room) {
      perror("socket");
      return 1;
    }
    began[fd] = wall();
    if (connect(fd, (struct sockaddr *)&target, sizeof target) && errno != EINPROGRESS) {
      perror("connect");
      return 1;
    }
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.fd = fd};
    epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event);
    /* Whoever is connected already is seen now, so that no time of ours counts as theirs. */
    struct epoll_event ready[64];
    do {
      int n = epoll_wait(poller, ready, 64, i + 1 < count || connected == count ? 0 : 5000);
      if (n <= 0) break;
      double now = wall();
      for (int k = 0; k < n; k++) {
        int of = ready[k].data.fd;
        char word[256];
        if (state[of] == DIALLED) {
          if (now - began[of] > slowest) slowest = now - began[of];
          state[of] = CONNECTED;
          connected++;
        }
        if (state[of] == CONNECTED && ready[k].events & EPOLLIN) {
          long size = recv(of, word, sizeof word, 0);
          if (size > 0) told++, state[of] = TOLD;
          if (!size || (size < 0 && errno != EAGAIN)) state[of] = LOST;
        }
      }
    } while (i + 1 == count && connected < count);
  }
  /* Those still on their way are told within a moment, if at all. */
  for (struct epoll_event ready; epoll_wait(poller, &ready, 1, 300) > 0;) {
    char word[256];
    if (state[ready.data.fd] == CONNECTED && recv(ready.data.fd, word, sizeof word, 0) > 0)
      told++, state[ready.data.fd] = TOLD;
  }
  printf("%.1f %d %d\n", slowest * 1e3, connected, told);
  fflush(stdout);
  while (getchar() != EOF);
  return 0;
}
