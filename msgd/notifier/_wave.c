/* One loop over many sockets: the same bytes to each of them, without the interpreter between two of them.
 *
 * send(fds, data) -> list: of each socket that has not taken all of it, its place in fds, and how many bytes it has taken
 * or minus its errno. fds: an array of C ints. It waits for none of them, and raises no SIGPIPE. The interpreter's lock
 * is let go of meanwhile; the caller sees to it that the descriptors stay open, as they do who closes sockets in the
 * same thread.
 *
 * Many sockets are shared with a second thread, a piece at a time: to send over loopback is work of the kernel's, 6 us a
 * socket, and each wakes who reads it (a proxy, or all of them, on this machine). Linux puts that one on the processor
 * that woke it, where it would wait for the end of the loop: so the second thread is nicer than others, and has whoever it
 * wakes go first. A thousand sockets read by one process, on two processors: half of them, and 99 %, have been read after
 * 5.8 and 12 ms in a plain loop, 3.3 and 6 with two threads, 2.3 and 5.4 with a nicer one. (sched_yield after each piece
 * did as well, but while it was used, once, on Linux 6.18, kernel threads that could run did not for minutes.)
 */
#define _GNU_SOURCE
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>

#define PIECE 16 /* sockets: 0.1 ms */
#define NICER 5  /* a third of the others' weight: the caller may have to wait until it has sent its piece */

struct wave {
    const int *fds;
    Py_ssize_t *taken;
    Py_ssize_t count, next; /* sockets; the first that nobody has begun with */
    const void *data;
    size_t size;
};

/* Take the next piece and send it; 0: there is none. */
static int take_piece(struct wave *wave) {
    Py_ssize_t i = __atomic_fetch_add(&wave->next, PIECE, __ATOMIC_RELAXED);
    if (i >= wave->count) return 0;
    Py_ssize_t end = i + PIECE < wave->count ? i + PIECE : wave->count;
    for (; i < end; i++) {
        Py_ssize_t *taken = &wave->taken[i];
        do *taken = send(wave->fds[i], wave->data, wave->size, MSG_DONTWAIT | MSG_NOSIGNAL);
        while (*taken < 0 && errno == EINTR);
        if (*taken < 0) *taken = -errno;
    }
    return 1;
}

/* -- the second thread --------------------------------------------------------------------------------------------- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t wanted = PTHREAD_COND_INITIALIZER, finished = PTHREAD_COND_INITIALIZER;
static struct wave *shared;  /* of which pieces may be taken; NULL: none */
static struct wave *sending; /* of which the second thread sends a piece */
static int is_begun;
static pthread_t thread;
static cpu_set_t ours; /* the processors that this process may use */
static int kept_off = -1;

static void *second(void *nothing) {
    setpriority(PRIO_PROCESS, 0, getpriority(PRIO_PROCESS, 0) + NICER); /* of this thread alone, on Linux */
    pthread_mutex_lock(&lock);
    for (;;) {
        while (!shared) pthread_cond_wait(&wanted, &lock);
        struct wave *wave = sending = shared;
        pthread_mutex_unlock(&lock);
        int done = !take_piece(wave);
        pthread_mutex_lock(&lock);
        /* From here on its owner may end it. */
        if (done && shared == wave) shared = NULL;
        sending = NULL;
        pthread_cond_broadcast(&finished);
    }
    return nothing;
}

/* Whether there is a second thread; one is begun where it is worth it. Under the lock. */
static int is_there(void) {
    sigset_t all, before;
    if (is_begun) return 1;
    if (sched_getaffinity(0, sizeof ours, &ours) || CPU_COUNT(&ours) < 2) return 0;
    sigfillset(&all); /* signals are for the interpreter's threads */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(&thread, NULL, second, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failed) return 0;
    pthread_detach(thread);
    return is_begun = 1;
}

/* A process that was forked has none, and may have been forked in the midst of a wave. */
static void forked(void) {
    pthread_mutex_init(&lock, NULL);
    pthread_cond_init(&wanted, NULL);
    pthread_cond_init(&finished, NULL);
    shared = sending = NULL;
    is_begun = 0;
    kept_off = -1;
}

/* Have it run beside the caller: where it ran last may be here, and Linux, which seldom looks further on a machine of two
 * processors, would wake it here, to wait until the caller pauses. */
static void keep_off(int here) {
    cpu_set_t others = ours;
    if (here < 0 || here == kept_off || !CPU_ISSET(here, &ours)) return;
    CPU_CLR(here, &others);
    if (!pthread_setaffinity_np(thread, sizeof others, &others)) kept_off = here;
}

/* Send everything, with its help if there is much to do and it is free. */
static void perform(struct wave *wave) {
    int helped = 0;
    if (wave->count > PIECE) {
        pthread_mutex_lock(&lock);
        helped = is_there() && !shared && !sending;
        if (helped) {
            keep_off(sched_getcpu());
            shared = wave;
            pthread_cond_signal(&wanted);
        }
        pthread_mutex_unlock(&lock);
    }
    while (take_piece(wave)) continue;
    if (helped) {
        pthread_mutex_lock(&lock);
        if (shared == wave) shared = NULL;
        while (sending == wave) pthread_cond_wait(&finished, &lock);
        pthread_mutex_unlock(&lock);
    }
}

/* -- the module ---------------------------------------------------------------------------------------------------- */

/* Those that have not taken all. */
static PyObject *rest_of(const struct wave *wave) {
    PyObject *list = PyList_New(0);
    for (Py_ssize_t i = 0; list && i < wave->count; i++) {
        if (wave->taken[i] == (Py_ssize_t)wave->size) continue;
        PyObject *pair = Py_BuildValue("nn", i, wave->taken[i]);
        if (!pair || PyList_Append(list, pair)) Py_CLEAR(list);
        Py_XDECREF(pair);
    }
    return list;
}

static PyObject *wave_send(PyObject *module, PyObject *args) {
    PyObject *answer = NULL;
    Py_buffer fds, data;
    (void)module;
    if (!PyArg_ParseTuple(args, "y*y*:send", &fds, &data)) return NULL;
    struct wave wave = {.fds = fds.buf, .count = fds.len / (Py_ssize_t)sizeof(int), .data = data.buf, .size = data.len};
    wave.taken = PyMem_New(Py_ssize_t, wave.count ? wave.count : 1);
    if (wave.taken) {
        Py_BEGIN_ALLOW_THREADS
        perform(&wave);
        Py_END_ALLOW_THREADS
        answer = rest_of(&wave);
    } else {
        PyErr_NoMemory();
    }
    PyMem_Free(wave.taken);
    PyBuffer_Release(&data);
    PyBuffer_Release(&fds);
    return answer;
}

static PyMethodDef methods[] = {
    {"send", wave_send, METH_VARARGS, "send(fds, data): which sockets have not taken all, and how much each has taken"},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    .m_base = PyModuleDef_HEAD_INIT,
    .m_name = "msgd.notifier._wave",
    .m_doc = "One loop over many sockets",
    .m_size = 0,
    .m_methods = methods,
};

PyMODINIT_FUNC PyInit__wave(void) {
    static int is_told;
    if (!is_told && pthread_atfork(NULL, NULL, forked)) return PyErr_NoMemory();
    is_told = 1;
    return PyModule_Create(&definition);
}
