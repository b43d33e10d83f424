/* A plugin of qemu-user that counts the instructions of an AArch64 program between two marks, exactly.
 *
 * A mark is the system call 5000 with a number and 0 (begin) or 1 (end): see main.c. At each end it prints the line
 * "counted NUMBER INSTRUCTIONS PRODUCTS LOADS STORES". Products are multiply-adds of vectors and dot products; loads
 * and stores are instructions, a pair counts once. The plugin interface is qemu's, version 1.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

typedef uint64_t plugin_id;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
typedef void (*translated_fn)(plugin_id, struct qemu_plugin_tb*);
typedef void (*syscall_fn)(plugin_id, unsigned, int64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t,
                           uint64_t, uint64_t);
void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id, translated_fn);
void qemu_plugin_register_vcpu_syscall_cb(plugin_id, syscall_fn);
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb*, int operation, void* counter, uint64_t step);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb*);
struct qemu_plugin_insn* qemu_plugin_tb_get_insn(const struct qemu_plugin_tb*, size_t);
const void* qemu_plugin_insn_data(const struct qemu_plugin_insn*);

#define SHOWN __attribute__((visibility("default")))
SHOWN int qemu_plugin_version = 1;

enum { MARK = 5000, KINDS = 4, ADD = 0 };
static uint64_t counts[KINDS], before[KINDS];

/* Arm's manual, "Advanced SIMD vector x indexed element" and "three same", with their half and dot product forms. */
static int product(uint32_t w) {
  uint32_t indexed = w & 0x9F00F400, same = w & 0x9F20FC00, half = w & 0x9F60FC00, more = w & 0x9F208400;
  if (indexed == 0x0F001000 || indexed == 0x0F002000 || indexed == 0x0F00E000 || indexed == 0x0F00F000) return 1;
  if ((w & 0xBF00F400) == 0x2F000000) return 1;                                   /* mla by element */
  if (same == 0x0E20CC00 || same == 0x0E209400 || same == 0x0E208000) return 1;   /* fmla, mla, smlal */
  if (half == 0x0E400C00) return 1;
  return more == 0x0E008400 && ((w >> 11) & 15) >= 2 && ((w >> 11) & 15) <= 5; /* dot products and matrix products */
}

static void translated(plugin_id id, struct qemu_plugin_tb* block) {
  uint64_t found[KINDS] = {qemu_plugin_tb_n_insns(block)};
  for (size_t i = 0; i < qemu_plugin_tb_n_insns(block); ++i) {
    uint32_t word;
    memcpy(&word, qemu_plugin_insn_data(qemu_plugin_tb_get_insn(block, i)), 4);
    found[1] += product(word);
    if ((word & 0x0A000000) == 0x08000000) { /* op0 = x1x0: loads and stores */
      int single = (word & 0x3A000000) == 0x38000000, vector = word >> 26 & 1, literal = (word & 0x3B000000) == 0x18000000;
      int load = literal || (single && !vector ? (word >> 22 & 3) != 0 : word >> 22 & 1);
      found[load ? 2 : 3] += 1;
    }
  }
  for (int i = 0; i < KINDS; ++i)
    if (found[i]) qemu_plugin_register_vcpu_tb_exec_inline(block, ADD, &counts[i], found[i]);
}

static void called(plugin_id id, unsigned cpu, int64_t number, uint64_t which, uint64_t end, uint64_t a3, uint64_t a4,
                   uint64_t a5, uint64_t a6, uint64_t a7, uint64_t a8) {
  if (number != MARK) return;
  if (end) {
    fprintf(stderr, "counted %lu", (unsigned long)which);
    for (int i = 0; i < KINDS; ++i) fprintf(stderr, " %lu", (unsigned long)(counts[i] - before[i]));
    fputc('\n', stderr);
  }
  memcpy(before, counts, sizeof counts);
}

SHOWN int qemu_plugin_install(plugin_id id, const void* info, int count, char** words) {
  qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
  qemu_plugin_register_vcpu_syscall_cb(id, called);
  return 0;
}
