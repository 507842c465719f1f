/* A plugin for QEMU 7.2's user-mode emulation of aarch64: counts instructions, and bytes loaded and stored.

   Options: out=FILE; check=on counts bytes a second time, access by access, which is slow.

   The program says which part is counted: getpriority(MARKER, START) and getpriority(MARKER, STOP). In between, every
   system call is a line of FILE, and so are the marks themselves:

       NUMBER INSTRUCTIONS LOADED STORED [LOADED STORED, access by access]

   with the sums since the program began. Runtimes read the clock between operators, a system call here: that is how
   instructions are told apart by operator.

   Each block of code adds its constants to the sums whenever it runs, inline. The number of bytes follows from the
   instruction's encoding (Arm Architecture Reference Manual, C4.1, "Loads and Stores"), except for SVE, whose
   predicates decide at run time: there each access is asked. DC ZVA, which clears a cache line, stores nothing here.

   Debian ships no header of this interface, so what is used of it is declared below, as is what is used of libc: so
   nothing but a compiler is needed. From QEMU 9 on, the interface is another one. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint64_t Id;
typedef uint32_t Access;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
enum { ADD = 0, NO_REGISTERS = 0, READ_AND_WRITE = 3 };

typedef void OnBlock(Id, struct qemu_plugin_tb *);
typedef void OnAccess(unsigned cpu, Access, uint64_t address, void *);
typedef void OnCall(Id, unsigned cpu, int64_t number, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t,
                    uint64_t, uint64_t);

size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *);
unsigned qemu_plugin_mem_size_shift(Access);
bool qemu_plugin_mem_is_store(Access);
void qemu_plugin_register_vcpu_tb_trans_cb(Id, OnBlock *);
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *, int operation, void *, uint64_t);
void qemu_plugin_register_vcpu_mem_cb(struct qemu_plugin_insn *, OnAccess *, int flags, int kind, void *);
void qemu_plugin_register_vcpu_syscall_cb(Id, OnCall *);

typedef struct File File;
File *fopen(const char *, const char *);
int fprintf(File *, const char *, ...);
int fflush(File *);
int strcmp(const char *, const char *);
int strncmp(const char *, const char *, size_t);
void *memcpy(void *, const void *, size_t);

int qemu_plugin_version = 1;

enum { GETPRIORITY = 141, START = 1, STOP = 2 };
static const uint32_t MARKER = 0x45444745;

typedef struct {
    uint64_t loaded, stored;
} Bytes;

static uint64_t instructions;
static Bytes bytes, seen, elsewhere;
static bool counting, checking;
static File *out;

static Bytes load(uint64_t n) { return (Bytes){n, 0}; }
static Bytes store(uint64_t n) { return (Bytes){0, n}; }
static Bytes exchange(uint64_t n) { return (Bytes){n, n}; }
static Bytes either(bool loads, uint64_t n) { return loads ? load(n) : store(n); }
static uint32_t field(uint32_t code, int high, int low) { return code >> low & ((2u << (high - low)) - 1); }

/* Exclusive, ordered or atomic: the emulator makes other accesses of them, and is not asked. */
static bool is_synchronising(uint32_t code, Bytes one)
{
    return field(code, 29, 24) == 8 || (one.loaded && one.stored);
}

static bool is_sve_access(uint32_t code) { return field(code, 28, 25) == 2 && field(code, 31, 31); }

static Bytes of_exclusive(uint32_t code)
{
    uint32_t size = field(code, 31, 30), ordered = field(code, 23, 23), pair = field(code, 21, 21);
    bool loads = field(code, 22, 22);
    if (!pair)
        return either(loads, 1u << size);
    if (ordered)
        return exchange(1u << size); /* CAS */
    return size < 2 ? exchange(8u << size) /* CASP */ : either(loads, 2u << size);
}

static Bytes of_register(uint32_t code)
{
    uint32_t size = field(code, 31, 30), operation = field(code, 23, 22);
    if (field(code, 26, 26))
        return either(operation & 1, 1u << (size | (operation & 2) << 1));
    if (!field(code, 24, 24) && field(code, 21, 21) && field(code, 11, 10) != 2) {
        if (field(code, 10, 10)) /* LDRAA, LDRAB */
            return load(8);
        return field(code, 15, 12) == 12 ? load(1u << size) /* LDAPR */ : exchange(1u << size); /* LDADD, SWP, ... */
    }
    if (size == 3 && operation == 2) /* PRFM */
        return (Bytes){0, 0};
    return either(operation, 1u << size);
}

static Bytes of_structures(uint32_t code)
{
    static const uint8_t registers[16] = {[0] = 4, [2] = 4, [4] = 3, [6] = 3, [7] = 1, [8] = 2, [10] = 2};
    bool loads = field(code, 22, 22);
    if (!field(code, 24, 24)) /* whole registers */
        return either(loads, registers[field(code, 15, 12)] * (field(code, 30, 30) ? 16u : 8u));
    uint32_t kind = field(code, 15, 14), size = field(code, 11, 10);
    uint32_t shift = kind == 3 ? size : kind == 2 && size == 1 ? 3 : kind;
    return either(loads, (((code >> 13 & 1) << 1 | field(code, 21, 21)) + 1) << shift);
}

/* What one instruction loads and stores. */
static Bytes moved(uint32_t code)
{
    uint32_t size = field(code, 31, 30);
    bool vector = field(code, 26, 26), loads = field(code, 22, 22);
    if (!field(code, 27, 27) || field(code, 25, 25))
        return (Bytes){0, 0};
    switch (field(code, 29, 28) << 1 | field(code, 24, 24)) {
    case 0: /* 00 xx 0 */
    case 1: /* 00 xx 1 */
        return vector ? of_structures(code) : of_exclusive(code);
    case 2: /* relative to the program counter; PRFM */
        return load(vector ? 4u << size : size == 3 ? 0 : size == 1 ? 8 : 4);
    case 3: /* LDAPUR, STLUR */
        return either(field(code, 23, 22), 1u << size);
    case 4: /* pairs; LDPSW */
    case 5:
        return either(loads, vector ? 8u << size : size == 2 ? 16 : 8);
    default:
        return of_register(code);
    }
}

static void on_access(unsigned cpu, Access access, uint64_t address, void *sum)
{
    uint64_t size = 1u << qemu_plugin_mem_size_shift(access);
    *(qemu_plugin_mem_is_store(access) ? &((Bytes *)sum)->stored : &((Bytes *)sum)->loaded) += size;
}

/* 7.2 takes no notice of the kind: one function has to serve both. */
static void ask_each_access(struct qemu_plugin_insn *instruction, Bytes *sum)
{
    qemu_plugin_register_vcpu_mem_cb(instruction, on_access, NO_REGISTERS, READ_AND_WRITE, sum);
}

static void add(struct qemu_plugin_tb *block, uint64_t *sum, uint64_t amount)
{
    if (amount)
        qemu_plugin_register_vcpu_tb_exec_inline(block, ADD, sum, amount);
}

static void on_block(Id id, struct qemu_plugin_tb *block)
{
    size_t count = qemu_plugin_tb_n_insns(block);
    Bytes sum = {0, 0}, unasked = {0, 0};
    for (size_t i = 0; i < count; i++) {
        struct qemu_plugin_insn *instruction = qemu_plugin_tb_get_insn(block, i);
        uint32_t code;
        memcpy(&code, qemu_plugin_insn_data(instruction), sizeof code);
        Bytes one = moved(code);
        sum.loaded += one.loaded;
        sum.stored += one.stored;
        if (is_sve_access(code))
            ask_each_access(instruction, &bytes);
        if (!checking)
            continue;
        bool asked = !is_synchronising(code, one);
        ask_each_access(instruction, asked ? &seen : &elsewhere);
        unasked.loaded += asked ? 0 : one.loaded;
        unasked.stored += asked ? 0 : one.stored;
    }
    add(block, &instructions, count);
    add(block, &bytes.loaded, sum.loaded);
    add(block, &bytes.stored, sum.stored);
    add(block, &seen.loaded, unasked.loaded);
    add(block, &seen.stored, unasked.stored);
}

static void write_line(const char *name, int64_t number)
{
    fprintf(out, "%s%ld %lu %lu %lu", name, number, instructions, bytes.loaded, bytes.stored);
    if (checking)
        fprintf(out, " %lu %lu", seen.loaded, seen.stored);
    fprintf(out, "\n");
}

static void on_call(Id id, unsigned cpu, int64_t number, uint64_t first, uint64_t second, uint64_t c, uint64_t d,
                    uint64_t e, uint64_t f, uint64_t g, uint64_t h)
{
    if (number == GETPRIORITY && (uint32_t)first == MARKER) {
        counting = second == START;
        write_line("mark ", second);
        fflush(out);
    } else if (counting)
        write_line("call ", number);
}

int qemu_plugin_install(Id id, const void *info, int count, char **options)
{
    for (int i = 0; i < count; i++) {
        if (!strncmp(options[i], "out=", 4))
            out = fopen(options[i] + 4, "w");
        else
            checking = !strcmp(options[i], "check=on");
    }
    if (!out)
        return 1;
    qemu_plugin_register_vcpu_tb_trans_cb(id, on_block);
    qemu_plugin_register_vcpu_syscall_cb(id, on_call);
    return 0;
}
